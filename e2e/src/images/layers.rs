//! Building layers. Each is built once for what it is made of, and of what is below it.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::archive::{Content, Packed};
use super::recipes::{Layer, Recipe, WHEELS_FOLDER};
use crate::cache::{self, Cache};
use crate::error::{Error, IoContext};
use crate::process::{Lifetime, Process, Program, last_line, tail};
use crate::progress;
use crate::tools::{self, Tool};

/// Changed when layers come out differently although their recipes stay the same.
const FORMAT: u32 = 1;
/// The layers, containerd's copies of them, and what a build needs on its way.
const NEEDED_GIB: u64 = 8;
/// A mirror of Debian's archive to take instead of debootstrap's own default.
const MIRROR: &str = "TRAINYARD_DEBIAN_MIRROR";
const TOOLS: [Tool; 3] = [
    Tool { program: "debootstrap", package: "debootstrap" },
    Tool { program: "tar", package: "tar" },
    Tool { program: "sha256sum", package: "coreutils" },
];

/// Builds those that are missing, the lowest first.
pub(super) async fn ensure(layers: &[Layer], cache: &Cache) -> Result<Vec<Packed>, Error> {
    let mut built = Vec::new();
    let mut key = String::new();
    for layer in layers {
        key = key_of(layer, &key);
        let folder = cache.layer(&format!("{}-{}", layer.name, &key[..12]));
        if !folder.exists() {
            build(layer, &built, &folder).await?;
        }
        let path = folder.join("layer.tar");
        let digest_file = folder.join("layer.sha256");
        let digest = fs::read_to_string(&digest_file).context("reading", &digest_file)?.trim().to_owned();
        let size = fs::metadata(&path).context("examining", &path)?.len();
        built.push(Packed { content: Content::File(path), uncompressed: digest.clone(), digest, size });
    }
    Ok(built)
}

/// Follows from everything that a layer is made of.
fn key_of(layer: &Layer, below: &str) -> String {
    // Files do not depend on what is below them.
    let below = if matches!(layer.recipe, Recipe::Files(_)) { "" } else { below };
    data_encoding::HEXLOWER.encode(&Sha256::digest(format!("{FORMAT} {:?} {below}", layer.recipe)))
}

/// Builds in a folder beside it, which gets the layer's own name when all is well.
async fn build(layer: &Layer, below: &[Packed], folder: &Path) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    tools::ensure(&TOOLS).await?;
    let work = Work(folder.with_extension("partial"));
    cache::remove(&work.0)?;
    cache::create_private(&work.0)?;
    if !matches!(layer.recipe, Recipe::Files(_)) {
        cache::check_space(&work.0, NEEDED_GIB)?;
    }
    let (steps, arguments) = match layer.recipe {
        Recipe::Debian { release, packages } => {
            let mirror = std::env::var(MIRROR).unwrap_or_default();
            (DEBIAN, vec![release.to_owned(), packages.join(","), mirror])
        }
        Recipe::Packages(packages) => (PACKAGES, [vec![packages.join(" ")], files_of(below)].concat()),
        Recipe::Wheels(wheels) => {
            let words = vec![wheels.join(" "), WHEELS_FOLDER.to_owned()];
            (WHEELS, [words, files_of(below)].concat())
        }
        Recipe::Files(files) => {
            for (name, text) in files {
                let path = work.0.join("root").join(name);
                let parent = path.with_file_name("");
                fs::create_dir_all(&parent).context("creating", &parent)?;
                fs::write(&path, text).context("writing", &path)?;
            }
            ("", Vec::new())
        }
    };
    run(layer.name, &format!("{BEGIN}{steps}{END}"), arguments, &work.0).await?;
    fs::rename(&work.0, folder).context("renaming", &work.0)
}

fn files_of(layers: &[Packed]) -> Vec<String> {
    layers.iter().filter_map(Packed::file).map(|path| path.to_string_lossy().into_owned()).collect()
}

/// Runs a script in namespaces of its own, so that no mount and no process of it can be left.
async fn run(name: &str, script: &str, arguments: Vec<String>, work: &Path) -> Result<(), Error> {
    let log = Cache::locate()?.log(&format!("layer-{name}"))?;
    let fixed = ["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--", "sh", "-euc", script, "sh"];
    let program = Program {
        name: name.to_owned(),
        path: "unshare".into(),
        arguments: fixed.into_iter().map(Into::into).chain(arguments.into_iter().map(Into::into)).collect(),
        environment: vec![
            ("DEBIAN_FRONTEND", "noninteractive".into()),
            ("LC_ALL", "C.UTF-8".into()),
            ("PATH", tools::path()),
        ],
        folder: work.to_owned(),
    };
    let mut process = Process::spawn(program, &log, Lifetime::Tied)?;
    let label = format!("building image layer {name}");
    progress::step(&label, || last_line(&log), async {
        if process.wait().await.success() {
            return Ok(());
        }
        Err(Error::Build { what: format!("image layer {name}"), log: log.clone(), tail: tail(&log) })
    })
    .await
}

/// In the work folder; `root` becomes the layer.
const BEGIN: &str = "umask 022; mkdir -p root\n";

const DEBIAN: &str = r#"
debootstrap --variant=minbase --include="$2" "$1" root $3
rm -rf root/var/cache/apt/* root/var/lib/apt/lists/* root/var/log/* root/usr/share/doc/* root/usr/share/man/* \
    root/usr/share/locale/* root/debootstrap
# The runtime mounts these.
rm -rf root/dev/* root/proc/* root/sys/*
"#;

/// Mounts the layers below, given as tar files, at `whole`, so that what changes there is in the folder `$upper`; and
/// defines `install`, which is apt-get in there.
macro_rules! over_the_layers_below {
    () => {
        r#"
mkdir -p below scratch whole "$upper"
for layer in "$@"; do tar -C below -xf "$layer" --numeric-owner; done
mount -t overlay overlay -o "lowerdir=below,upperdir=$upper,workdir=scratch" whole
mount -t proc proc whole/proc
mount -t tmpfs tmpfs whole/tmp
mknod -m 666 whole/dev/null c 1 3
mknod -m 666 whole/dev/urandom c 1 9
cp --dereference /etc/resolv.conf whole/etc/resolv.conf
# Services must not start.
printf '#!/bin/sh\nexit 101\n' > whole/usr/sbin/policy-rc.d
chmod 755 whole/usr/sbin/policy-rc.d
install() {
    chroot whole apt-get -q update
    chroot whole apt-get -q install --yes --no-install-recommends "$@"
}
"#
    };
}

/// The overlay's upper folder is the new layer. What it notes as removed, by a device 0/0, is written as OCI layers say
/// it.
const PACKAGES: &str = concat!(
    "packages=\"$1\"; shift; upper=root",
    over_the_layers_below!(),
    r#"
install $packages
rm -rf whole/var/cache/apt/* whole/var/lib/apt/lists/* whole/var/log/* whole/usr/share/doc/* whole/usr/share/man/* \
    whole/usr/share/locale/* whole/usr/sbin/policy-rc.d whole/etc/resolv.conf whole/dev/*
umount whole/tmp whole/proc whole
find root -type c | while read -r gone; do
    rm "$gone"
    : > "$(dirname "$gone")/.wh.$(basename "$gone")"
done
rm -rf root/dev root/proc root/tmp
"#
);

/// pip and what it needs are not part of the layer, only what it installs.
const WHEELS: &str = concat!(
    "wheels=\"$1\"; folder=\"$2\"; shift 2; upper=thrown-away",
    over_the_layers_below!(),
    r#"
install python3-pip
# Whoever this machine trusts.
mount --bind /etc/ssl/certs whole/etc/ssl/certs
mkdir -p "root/$folder" "whole/$folder"
mount --bind "root/$folder" "whole/$folder"
chroot whole python3 -m pip install --no-cache-dir --target "/$folder" $wheels
umount "whole/$folder" whole/etc/ssl/certs whole/tmp whole/proc whole
rm -rf thrown-away
"#
);

const END: &str = r#"
tar -C root -cf layer.tar --numeric-owner --sort=name --xattrs --xattrs-include='security.capability' .
sha256sum layer.tar | cut -d ' ' -f 1 > layer.sha256
rm -rf root below scratch whole
"#;

/// A folder that goes with the value, unless it was renamed.
struct Work(PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        let _ = cache::remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &'static str) -> Layer {
        Layer { name: "files", recipe: Recipe::Files(Box::leak(Box::new([("a", text)]))) }
    }

    #[test]
    fn a_key_follows_from_the_content() {
        let packages = Layer { name: "more", recipe: Recipe::Packages(&["curl"]) };
        assert_eq!(key_of(&files("x"), "one"), key_of(&files("x"), "two"));
        assert_ne!(key_of(&files("x"), ""), key_of(&files("y"), ""));
        assert_ne!(key_of(&packages, "one"), key_of(&packages, "two"));
    }
}
