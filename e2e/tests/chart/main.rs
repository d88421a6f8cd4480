//! The chart and the kustomize bases, as the real Helm and the real kubectl render them. No cluster is needed.
//!
//! After a change of the chart: `TRAINYARD_UPDATE=1 cargo test -p e2e --test chart` writes the files of `config/base`
//! again.
//!
//! | module | what |
//! | --- | --- |
//! | `tools` | Helm and kubectl, and the objects that they render |
//! | `refusals` | what `values.schema.json` refuses, and that it names the key |
//! | `rendering` | what is rendered for which values; tidiness of all of it |
//! | `names` | names and labels that are easily mistaken |
//! | `notes` | what Helm says after an installation |
//! | `namespaced` | an installation without rights in the cluster |
//! | `pods` | Pod Security "restricted" |
//! | `kustomize` | `config/` is the chart's defaults |
//! | `monitoring` | alerts and dashboard ask for metrics that exist |
//! | `sizes` | how large the chart, its CRDs and a release are |

mod kustomize;
mod monitoring;
mod names;
mod namespaced;
mod notes;
mod pods;
mod refusals;
mod rendering;
mod sizes;
mod tools;
