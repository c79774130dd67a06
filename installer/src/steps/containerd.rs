//! `containerd`: its configuration, where it pulls from, its unit, and that it answers. The kubelet's unit comes with it.

use std::time::Duration;

use bundle::Digest;
use program::Outcome;

use super::Ground;
use super::input_of;
use crate::machine::Mode;
use crate::machine::wait_for;
use crate::render::containerd as render;
use crate::render::kubeadm::RESOLV_CONF;
use crate::render::units;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;
use crate::tools::ctr;
use crate::tools::systemctl;

/// Where syncd serves images on this node.
pub(crate) const IMAGES_PORT: u16 = 7402;

const SERVICE: &str = "containerd.service";
const KUBELET: &str = "kubelet.service";

/// Brings containerd up.
pub(crate) struct Containerd<'a>(pub(crate) &'a Ground<'a>);

impl Containerd<'_> {
    /// Every file with its text.
    fn files(&self) -> Outcome<Vec<(String, String)>> {
        let ground = self.0;
        let pause = ground.pause()?;
        let mut files = vec![(
            render::CONFIG.to_owned(),
            render::config(&pause, ground.features),
        )];
        for registry in ground.registries() {
            files.push((render::hosts_path(registry), render::hosts(IMAGES_PORT)));
        }
        if !ground.features.nameserver {
            // Nobody answers there, and at once: a look-up of a foreign name fails instead of hanging.
            let text = format!("nameserver {}\n", ground.site.address);
            files.push((RESOLV_CONF.to_owned(), text));
        }
        Ok(files)
    }
}

impl Step for Containerd<'_> {
    fn id(&self) -> &'static str {
        "containerd"
    }

    fn input(&self) -> Digest {
        let files = self.files().unwrap_or_default();
        let mut parts: Vec<&str> = Vec::new();
        for (path, text) in &files {
            parts.extend([path.as_str(), text.as_str()]);
        }
        let unit = units::containerd().1;
        parts.push(&unit);
        input_of(&parts)
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let machine = self.0.machine;
        let files = self.files()?;
        let written = files
            .iter()
            .all(|(path, text)| machine.holds(path, text, Mode::Plain))
            && systemctl::is_written(machine, &units::containerd())
            && systemctl::is_written(machine, &units::kubelet());
        let good = written
            && systemctl::is_enabled(machine, SERVICE)
            && systemctl::is_enabled(machine, KUBELET)
            && ctr::answers(machine).is_ok();
        let registries = self.0.registries().len();
        Ok(good.then(|| format!("answers; {registries} registries, all from this node's syncd")))
    }

    fn apply(&self, work: &mut Work<'_>) -> Outcome {
        let machine = self.0.machine;
        let mut changed = false;
        for (path, text) in self.files()? {
            // Where it pulls from is read at each pull; only its own configuration wants a restart.
            let news = machine.write(&path, &text, Mode::Plain)?;
            changed |= news && path == render::CONFIG;
        }
        let unit = systemctl::write(machine, &units::containerd())?;
        if systemctl::write(machine, &units::kubelet())? || unit {
            systemctl::reload(machine)?;
        }
        for service in [SERVICE, KUBELET] {
            if !systemctl::is_enabled(machine, service) {
                systemctl::enable(machine, service)?;
            }
        }
        work.doing("starting");
        if (changed || unit) && systemctl::is_active(machine, SERVICE) {
            systemctl::restart(machine, SERVICE)?;
        } else {
            systemctl::start(machine, SERVICE)?;
        }
        wait_for("containerd answers", Duration::from_mins(1), || {
            ctr::answers(machine).map_err(|error| error.to_string())
        })
    }
}
