//! An embedded Kubernetes for tests and benchmarks: real etcd, kube-apiserver, kube-controller-manager and
//! kube-scheduler as plain processes on loopback, and kwok's fake nodes.
//!
//! [`Cluster::start`] is for programs; it lives and dies with them. [`up`] leaves a cluster running for a person.
//! Both build the programs from source first ([`ensure_binaries`]), which takes about 12 minutes once for a machine.
//!
//! | module | what |
//! | --- | --- |
//! | `cache`, `run_folder`, `state`, `lock` | what is on disk, whose it is, and how a dead run's leftovers are found |
//! | `binaries` | `go build`, once for each version |
//! | `process` | children that never outlive their purpose |
//! | `certs`, `kubeconfig`, `control_plane`, `kwok` | the cluster's parts |
//! | `cluster`, `keep` | the whole, within a process or kept for a person |
//! | `install`, `operator` | Trainyard in it, from the source tree, under its own rights |
//! | `bench` | the budgets, measured |
//! | `progress`, `interrupt` | what a person sees, and Ctrl-C |

pub mod all;
pub mod bench;
mod binaries;
mod cache;
mod certs;
mod cluster;
mod control_plane;
pub mod demo;
mod error;
mod helper;
pub mod images;
pub mod install;
mod interrupt;
mod keep;
mod kubeconfig;
mod kwok;
mod lock;
mod node;
pub mod operator;
mod operator_binary;
mod process;
mod progress;
mod run_folder;
mod state;
mod tools;
mod volumes;

pub use binaries::{
    Binaries, ETCD_VERSION, KUBERNETES_VERSION, KWOK_VERSION, NodeBinaries, ensure_binaries, ensure_node_binaries,
};
pub use cluster::{Cluster, ClusterOptions};
pub use error::Error;
pub use helper::dispatch;
pub use interrupt::until_interrupted;
pub use keep::{ComponentStatus, Status, Up, down, kubeconfig, status, up};
pub use node::{NODE_NAME, Node, NodeOptions, TAINT, check_requirements};
pub use operator_binary::{Build, build_operator};
