//! `kernel`: what pods need of the kernel, now and after each boot. Judged by what `/proc` says, never by modprobe.

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fact;
use bundle::fault::Fault;
use program::Outcome;

use super::Ground;
use super::input_of;
use crate::machine::Call;
use crate::machine::Mode;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;

const SYSCTL_FILE: &str = "/etc/sysctl.d/90-sealift.conf";
const MODULES_FILE: &str = "/etc/modules-load.d/sealift.conf";

/// Loaded at boot where they are modules.
const MODULES: &str = "overlay\nbr_netfilter\nnf_conntrack\nvxlan\n";

/// Packets between pods of one node pass the rules of Services only when bridges call them.
const SETTINGS: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
];

/// Sets the kernel up.
pub(crate) struct Kernel<'a>(pub(crate) &'a Ground<'a>);

/// A setting that the kernel has and does not take.
#[derive(Debug, thiserror::Error)]
#[error("the kernel setting {setting} can't be changed")]
struct Refused {
    setting: String,
    wanted: &'static str,
}

impl Kernel<'_> {
    fn value(&self, setting: &str) -> Outcome<Option<String>> {
        let value = self.0.machine.read(&proc_path(setting))?;
        Ok(value.map(|text| text.trim().to_owned()))
    }
}

/// The same for each boot to come.
fn sysctl_file() -> String {
    let lines = SETTINGS
        .iter()
        .map(|(setting, value)| format!("{} = {value}", setting.replace('/', ".")));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn proc_path(setting: &str) -> String {
    format!("/proc/sys/{setting}")
}

impl Step for Kernel<'_> {
    fn id(&self) -> &'static str {
        "kernel"
    }

    fn input(&self) -> Digest {
        input_of(&[&sysctl_file(), MODULES])
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let machine = self.0.machine;
        if !machine.holds(SYSCTL_FILE, &sysctl_file(), Mode::Plain)
            || !machine.holds(MODULES_FILE, MODULES, Mode::Plain)
        {
            return Ok(None);
        }
        for (setting, wanted) in SETTINGS {
            // Some kernels have no bridge filter of the old kind; the rules of nftables see bridged packets there.
            if self.value(setting)?.is_some_and(|value| value != wanted) {
                return Ok(None);
            }
        }
        Ok(Some("forwarding on, bridges filtered".to_owned()))
    }

    fn apply(&self, _work: &mut Work<'_>) -> Outcome {
        let machine = self.0.machine;
        machine.write(MODULES_FILE, MODULES, Mode::Plain)?;
        for module in MODULES.lines() {
            // Built in, a module, or absent: what counts is looked at afterwards.
            let _exit_code_means_nothing = machine.run(&Call::new("modprobe", [module]));
        }
        machine.write(SYSCTL_FILE, &sysctl_file(), Mode::Plain)?;
        for (setting, wanted) in SETTINGS {
            if self.value(setting)?.is_none_or(|value| value == wanted) {
                continue;
            }
            let path = machine.path(&proc_path(setting));
            if std::fs::write(&path, wanted).is_err() {
                return Err(Refused {
                    setting: setting.replace('/', "."),
                    wanted,
                }
                .into());
            }
        }
        Ok(())
    }
}

impl Fault for Refused {
    fn code(&self) -> &'static str {
        "KERNEL_SETTING"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn facts(&self) -> Vec<Fact> {
        vec![Fact::new("wanted", self.wanted)]
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "set it on the host: sysctl -w {}={}",
            self.setting, self.wanted
        ))
    }
}
