//! What is in each image.

use std::fmt;

use serde_json::json;

use super::archive::Description;

/// An image of the tests and the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Debian with Python: for pods that need no framework.
    Base,
    /// PyTorch of Debian and scikit-learn, with the programs of the demo: they prepare data, train and evaluate.
    Digits,
    /// PyTorch as its makers publish it, for the long runs: Debian's comes without a `torchrun` that works.
    Torchrun,
    /// MLServer, an inference server that speaks the Open Inference Protocol, with a classifier whose weights are a
    /// file.
    Server,
}

/// One layer: what it adds to those below it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub(super) name: &'static str,
    pub(super) recipe: Recipe,
}

/// How a layer is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recipe {
    /// A new root file system of Debian with these packages.
    Debian { release: &'static str, packages: &'static [&'static str] },
    /// More of Debian's packages.
    Packages(&'static [&'static str]),
    /// Python packages from PyPI, with all that they depend on, in [`WHEELS_FOLDER`].
    Wheels(&'static [&'static str]),
    /// Files, by their path without the leading slash.
    Files(&'static [(&'static str, &'static str)]),
}

/// Where Python packages are that are not Debian's.
pub(super) const WHEELS_FOLDER: &str = "opt/wheels";

const BASE: Layer =
    Layer { name: "debian", recipe: Recipe::Debian { release: "trixie", packages: &["ca-certificates", "python3"] } };
const TORCH: Layer = Layer { name: "torch", recipe: Recipe::Packages(&["python3-torch", "python3-sklearn"]) };
const PUBLISHED_TORCH: Layer =
    Layer { name: "published-torch", recipe: Recipe::Wheels(&["torch==2.15.0", "numpy", "scikit-learn"]) };
/// The file of a trained network, for what writes it and what reads it.
const NETWORK: (&str, &str) = ("app/network.py", include_str!("../../images/network.py"));
const DIGITS: Layer = Layer {
    name: "digits",
    recipe: Recipe::Files(&[
        NETWORK,
        ("app/prepare.py", include_str!("../../images/digits/prepare.py")),
        ("app/train.py", include_str!("../../images/digits/train.py")),
        ("app/evaluate.py", include_str!("../../images/digits/evaluate.py")),
    ]),
};
// The newest that takes the Python of Debian.
const MLSERVER: Layer = Layer { name: "mlserver", recipe: Recipe::Wheels(&["mlserver==1.3.5"]) };
const SERVER: Layer = Layer {
    name: "server",
    recipe: Recipe::Files(&[
        NETWORK,
        ("app/classifier.py", include_str!("../../images/server/classifier.py")),
        ("app/serve.py", include_str!("../../images/server/serve.py")),
    ]),
};

impl Image {
    /// Those of the demo and of the tests that CI runs.
    pub const USUAL: [Self; 3] = [Self::Base, Self::Digits, Self::Server];

    /// Its name without registry and tag.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Digits => "digits",
            Self::Torchrun => "torchrun",
            Self::Server => "server",
        }
    }

    /// The reference by which pods of the embedded cluster ask for it.
    pub fn reference(self) -> String {
        self.reference_in("localhost/trainyard")
    }

    /// Its reference in a registry, such as `registry.example.com/team`.
    pub fn reference_in(self, registry: &str) -> String {
        format!("{}/{}:1", registry.trim_end_matches('/'), self.name())
    }

    pub(super) fn layers(self) -> &'static [Layer] {
        match self {
            Self::Base => &[BASE],
            Self::Digits => &[BASE, TORCH, DIGITS],
            Self::Torchrun => &[BASE, PUBLISHED_TORCH, DIGITS],
            Self::Server => &[BASE, MLSERVER, SERVER],
        }
    }

    /// What the image says of itself.
    pub(super) fn description(self) -> Description {
        let config = [("Env", json!(self.environment())), ("Cmd", json!(self.command()))];
        let config = config.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Description { reference: self.reference(), config, ..Description::default() }
    }

    /// What its containers run when nothing else is asked for.
    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Base | Self::Digits | Self::Torchrun => &["sleep", "infinity"],
            Self::Server => &["python3", "/app/serve.py"],
        }
    }

    /// Variables that its processes find.
    fn environment(self) -> &'static [&'static str] {
        const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        const WHEELS: &str = "PYTHONPATH=/opt/wheels";
        match self {
            Self::Base => &[PATH],
            // Debian builds PyTorch without libuv, which its TCPStore would otherwise take. One thread each: the two
            // ranks of the demo share the processors of one machine.
            Self::Digits => &[PATH, "USE_LIBUV=0", "OMP_NUM_THREADS=1"],
            Self::Torchrun => &[
                "PATH=/opt/wheels/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                WHEELS,
                "OMP_NUM_THREADS=1",
            ],
            Self::Server => &[PATH, WHEELS, "OMP_NUM_THREADS=1"],
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
