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

    fn invite(&self, node: &NodeName) -> Result<(), FileError> {
        Self::invite(self, node).map(drop).map_err(file_error)
    }

    fn admit(&self, master: &Master) -> Result<(), FileError> {
        let address = SocketAddr::new(master.address, members::PORT);
        let admitted = Self::admit(self, &master.name, address);
        admitted.map(drop).map_err(file_error)
    }
}

fn file_error(error: MembershipError) -> FileError {
    match error {
        MembershipError::File(error) => error,
        MembershipError::Format { file, source } => {
            FileError::new("write", &file, io::Error::other(source))
        }
    }
}
