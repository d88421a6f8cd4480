//! One image of a handwritten digit: as a run reports it, as a question to a model, and as people see it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::server::question;

const SIDE: usize = 8;
/// From white to black.
const DARKEST: u8 = 16;
/// Terminals have no more shades than these everywhere.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];

/// An image, and the digit that it is known to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Digit {
    /// From 0 to [`DARKEST`], row by row.
    pixels: Vec<u8>,
    pub(super) label: i64,
}

impl Digit {
    /// The one that step prepare reports, in its outputs.
    pub(super) fn reported(outputs: &Value) -> Result<Self> {
        let (image, label) = (outputs["image"].as_str(), outputs["label"].as_i64());
        let (image, label) = image.zip(label).with_context(|| format!("no image and label in {outputs}"))?;
        let pixels: Vec<u8> =
            image.split_whitespace().map(str::parse).collect::<Result<_, _>>().context(image.to_owned())?;
        ensure!(pixels.len() == SIDE * SIDE, "{} pixels instead of {}: {image}", pixels.len(), SIDE * SIDE);
        ensure!(pixels.iter().all(|pixel| *pixel <= DARKEST), "shades above {DARKEST}: {image}");
        Ok(Self { pixels, label })
    }

    /// What the model is asked: pixels from 0 to 1.
    pub(super) fn question(&self) -> Value {
        let sample: Vec<f64> = self.pixels.iter().map(|pixel| f64::from(*pixel) / f64::from(DARKEST)).collect();
        question(&sample)
    }

    /// The picture, a line for each row of pixels, each pixel about as wide as it is high.
    pub(super) fn picture(&self) -> Vec<String> {
        let shade = |pixel: &u8| SHADES[usize::from(*pixel) * (SHADES.len() - 1) / usize::from(DARKEST)];
        let row = |row: &[u8]| row.iter().map(shade).flat_map(|shade| [shade, shade]).collect();
        self.pixels.chunks(SIDE).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_reported_is_asked_and_drawn() {
        let row = "0 4 8 12 16 1 15 0 ";
        let digit = Digit::reported(&json!({"image": row.repeat(8), "label": 7})).unwrap();
        assert_eq!(digit.label, 7);
        assert_eq!(digit.picture(), ["  ░░▒▒▓▓██  ▓▓  "; 8]);
        let question = digit.question();
        assert_eq!(question["inputs"][0]["shape"], json!([1, 64]));
        assert_eq!(question["inputs"][0]["data"][2], 0.5);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for outputs in [json!({"image": "1 2", "label": 7}), json!({"image": "17 ".repeat(64), "label": 7}), json!({})]
        {
            assert!(Digit::reported(&outputs).is_err(), "{outputs}");
        }
    }
}
