//! Objects as the YAML files that people apply.

use serde_json::Value;

/// Writes objects as one YAML stream.
///
/// # Errors
/// None in practice: every JSON tree can be written as YAML.
pub fn yaml(objects: &[Value]) -> Result<String, serde_saphyr::ser::Error> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(object)?);
    }
    Ok(text)
}
