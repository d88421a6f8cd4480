//! Why pods have not started, in words.

use std::collections::BTreeMap;

use super::container::ContainerState;
use super::pod::PodFacts;

/// What [`is_ordinary`].
const ORDINARY: [&str; 3] = ["", "ContainerCreating", "PodInitializing"];

/// Says why pods wait, most frequent reason first: `2 of 8 pods unschedulable: insufficient nvidia.com/gpu`.
pub fn why<'a>(waiting: impl Iterator<Item = &'a PodFacts>, of: u32) -> Option<String> {
    counted(waiting.filter_map(reason), of)
}

/// Reasons with the number of pods that each holds up, the most frequent three first.
pub fn counted(reasons: impl Iterator<Item = String>, of: u32) -> Option<String> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut counted: Vec<(String, u32)> = counts.into_iter().collect();
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let parts: Vec<String> =
        counted.iter().take(3).map(|(reason, count)| format!("{count} of {of} pods {reason}")).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Whether a kubelet's reason means "as it should be, just not yet".
pub fn is_ordinary(reason: &str) -> bool {
    ORDINARY.contains(&reason)
}

/// Why one pod has not started, if that is out of the ordinary.
pub fn reason(pod: &PodFacts) -> Option<String> {
    if !pod.gates.is_empty() {
        let noun = if pod.gates.len() == 1 { "gate" } else { "gates" };
        let gates = pod.gates.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        return Some(format!("held by scheduling {noun} {gates}"));
    }
    if let Some(words) = &pod.unschedulable {
        return Some(format!("unschedulable: {}", scheduler_words(words)));
    }
    pod.containers.iter().find_map(|container| match &container.state {
        ContainerState::Waiting(reason, message) if !is_ordinary(reason) => {
            let message = if message.is_empty() { String::new() } else { format!(": {message}") };
            Some(format!("waiting in container {}: {reason}{message}", container.name))
        }
        _ => None,
    })
}

/// Out of `0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/gpu. preemption: ...`
/// takes what is missing if something is, else the scheduler's first sentence.
fn scheduler_words(message: &str) -> String {
    let missing: Vec<&str> = message
        .split("Insufficient ")
        .skip(1)
        .map(|rest| {
            let end = rest.find([',', ' ', ';']).unwrap_or(rest.len());
            rest[..end].trim_end_matches('.')
        })
        .collect();
    if missing.is_empty() {
        return message.split(". ").next().unwrap_or(message).trim_end_matches('.').to_owned();
    }
    let mut distinct: Vec<&str> = Vec::new();
    for resource in missing {
        if !distinct.contains(&resource) {
            distinct.push(resource);
        }
    }
    format!("insufficient {}", distinct.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::container::ContainerFacts;

    fn unschedulable(message: &str) -> PodFacts {
        PodFacts { unschedulable: Some(message.into()), ..PodFacts::default() }
    }

    fn waiting(reason: &str, message: &str) -> PodFacts {
        let state = ContainerState::Waiting(reason.into(), message.into());
        PodFacts {
            containers: vec![ContainerFacts { name: "c".into(), state, ..ContainerFacts::default() }],
            ..PodFacts::default()
        }
    }

    #[test]
    fn says_what_a_person_can_act_on() {
        let gpu = unschedulable(
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available.",
        );
        let both = unschedulable("0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.");
        let taint = unschedulable("0/2 nodes are available: 2 node(s) had untolerated taint(s). preemption: none.");
        let image = waiting("ImagePullBackOff", "no such image");
        let gated = PodFacts { gates: vec!["example.com/queue".into()], ..PodFacts::default() };
        let cases: [(&[PodFacts], Option<&str>); 7] = [
            (&[gated.clone(), gated], Some("2 of 8 pods held by scheduling gate example.com/queue")),
            (&[waiting("ContainerCreating", "")], None),
            (&[], None),
            (&[gpu.clone(), gpu.clone()], Some("2 of 8 pods unschedulable: insufficient nvidia.com/gpu")),
            (&[both], Some("1 of 8 pods unschedulable: insufficient cpu, memory")),
            (&[taint], Some("1 of 8 pods unschedulable: 0/2 nodes are available: 2 node(s) had untolerated taint(s)")),
            (
                &[image, gpu.clone(), gpu],
                Some(
                    "2 of 8 pods unschedulable: insufficient nvidia.com/gpu; 1 of 8 pods waiting in container c: ImagePullBackOff: no such image",
                ),
            ),
        ];
        for (pods, expected) in cases {
            assert_eq!(why(pods.iter(), 8).as_deref(), expected);
        }
    }
}
