//! What a real node needs of the machine, checked before anything is made.

use std::path::Path;
use std::process::{Command, Stdio};

use super::machine::is_visible_inside;
use crate::cache;
use crate::cgroups::Hierarchies;
use crate::error::{Error, IoContext};
use crate::tools::{self, Tool};

/// What a node calls, beside what is built for it.
const TOOLS: [Tool; 7] = [
    Tool { program: "runc", package: "runc" },
    Tool { program: "nft", package: "nftables" },
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "unshare", package: "util-linux" },
    Tool { program: "nsenter", package: "util-linux" },
    Tool { program: "mount", package: "mount" },
    Tool { program: "cp", package: "coreutils" },
];

/// Each of these is asked of the kernel by a command that succeeds only where it is there, in namespaces that go with
/// the command.
const FEATURES: [(&str, &str); 4] = [
    ("namespaces (CAP_SYS_ADMIN)", "true"),
    ("virtual links (veth)", "ip link add probe0 type veth peer name probe1"),
    (
        "overlays whose upper folder is in the cache folder",
        "mkdir a b c d && mount -t overlay overlay -o lowerdir=a,upperdir=b,workdir=c d",
    ),
    (
        "nftables with NAT and connection tracking",
        "nft 'add table ip probe; add chain ip probe nat { type nat hook prerouting priority -100; }; \
         add rule ip probe nat ct state new dnat to 127.0.0.1'",
    ),
];

/// Says what is missing, in one sentence with the remedy.
pub(crate) async fn check(cache: &Path) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    if !is_visible_inside(cache) {
        return Err(Error::HiddenCache { folder: cache.to_owned() });
    }
    tools::ensure(&TOOLS).await?;
    Hierarchies::find()?.probe()?;
    cache::create_private(cache)?;
    for (feature, command) in FEATURES {
        let folder = tempfile::tempdir_in(cache).context("making a folder in", cache)?;
        let probe = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--", "sh", "-ec", command])
            .env("PATH", tools::path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output();
        let words = match probe {
            Ok(output) if output.status.success() => continue,
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(Error::NoFeature { feature, words });
    }
    Ok(())
}
