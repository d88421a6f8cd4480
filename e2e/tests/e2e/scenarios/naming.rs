//! Names at their longest.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::manifest::Job;
use crate::objects::{CHILDREN, name, uid};
use crate::space::Space;

pub(crate) async fn names_of_63_characters_work_and_do_not_collide(space: Space) -> Result<()> {
    let prefix = format!("a{}", "-long-name".repeat(7));
    let jobs = ["x", "y"].map(|last| format!("{}{last}", &prefix[..62]));
    for job in &jobs {
        space.submit(&Job::torch(job, 2)).await?;
    }
    let mut children = BTreeSet::new();
    let mut expected = 0;
    for job in &jobs {
        let job = space.until_state(job, "Succeeded").await?;
        for kind in CHILDREN {
            let found = space.children(kind, uid(&job)).await?;
            ensure!(!found.is_empty(), "{} has no {kind:?}", name(&job));
            expected += found.len();
            children.extend(found.iter().map(|child| format!("{kind:?} {}", name(child))));
            ensure!(found.iter().all(|child| name(child).len() <= 63), "{children:?}");
        }
    }
    ensure!(children.len() == expected, "two children share a name: {children:?}");
    Ok(())
}
