//! The list of masters, as the broker adds to it.

use std::io;
use std::net::SocketAddr;

use api::join::Master;
use api::members;
use api::sync::NodeName;
use program::FileError;

use super::plane::Roster;
use crate::membership::Membership;
use crate::membership::MembershipError;

impl Roster for Membership {
    fn has(&self, node: &NodeName) -> bool {
        let roster = self.roster();
        roster.members().present().any(|(name, _)| name == node)
    }

    fn admit(&self, master: &Master) -> Result<(), FileError> {
        let address = SocketAddr::new(master.address, members::PORT);
        match Self::admit(self, &master.name, address) {
            Ok(_is_news) => Ok(()),
            Err(MembershipError::File(error)) => Err(error),
            Err(MembershipError::Format { file, source }) => {
                Err(FileError::new("write", &file, io::Error::other(source)))
            }
        }
    }
}
