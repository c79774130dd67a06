//! A site without internet: nobody looks for it either.

use anyhow::Result;
use anyhow::ensure;

use crate::story::Story;

/// The bed's switch has counted every packet of every node since the first machine was switched on.
pub(crate) fn nothing_was_sent(story: &mut Story) -> Result<()> {
    story.four_nodes()?;
    let outside = story.site()?.bed().outside()?;
    ensure!(
        outside.packets == 0,
        "nodes have looked outside the bed: {outside:?}"
    );
    Ok(())
}
