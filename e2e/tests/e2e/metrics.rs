//! The operator's metrics, read back.

use std::collections::BTreeMap;

/// Samples by their whole name, labels included.
pub(crate) struct Samples(BTreeMap<String, f64>);

impl Samples {
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Samples(samples.collect())
    }

    /// The sum of all samples of a family whose labels contain every one of these; 0 if there are none.
    pub(crate) fn sum(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        let matching = self.0.iter().filter(|(name, _)| {
            let (of, rest) = name.split_once('{').unwrap_or((name.as_str(), ""));
            of == family && labels.iter().all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")))
        });
        matching.map(|(_, value)| value).sum()
    }
}
