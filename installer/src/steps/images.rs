//! `images`: what this node can't do without, pulled from its own syncd and pinned: no garbage collection may strand it.

use api::join::Role;
use bundle::Digest;
use program::Outcome;

use super::Ground;
use super::input_of;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::tools::ctr;
use crate::tools::kubeadm;

/// Pulls and pins.
pub(crate) struct Images<'a>(pub(crate) &'a Ground<'a>);

impl Images<'_> {
    /// The images that kubeadm names and this role needs.
    fn wanted(&self) -> Outcome<Vec<String>> {
        let ground = self.0;
        let named = kubeadm::images(ground.machine, &ground.versions.kubernetes)?;
        let needed = |name: &String| match ground.site.role {
            Role::Master => true,
            Role::Worker => name.contains("/kube-proxy:") || name.contains("/pause:"),
        };
        Ok(named.into_iter().filter(needed).collect())
    }
}

impl Step for Images<'_> {
    fn id(&self) -> &'static str {
        "images"
    }

    fn input(&self) -> Digest {
        let names: Vec<String> = self
            .0
            .index
            .images
            .iter()
            .map(|image| image.name.to_string())
            .collect();
        input_of(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let held = ctr::images(self.0.machine)?;
        let wanted = self.wanted()?;
        let good = wanted.iter().all(|name| {
            let signed = self.0.image(name);
            held.get(name)
                .is_some_and(|held| held.pinned && (signed.is_none() || held.digest == signed))
        });
        Ok(good.then(|| format!("{} pinned, under their own names", wanted.len())))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        let machine = self.0.machine;
        let wanted = self.wanted()?;
        if self.0.site.role == Role::Master {
            work.doing("pulling from this node's syncd");
            kubeadm::pull_images(machine, &self.0.versions.kubernetes)?;
            for name in &wanted {
                ctr::pin(machine, name)?;
            }
            return Ok(());
        }
        for name in &wanted {
            work.doing(name);
            ctr::pull(machine, name)?;
        }
        Ok(())
    }
}
