//! Lists of costs on the command line.

use std::str::FromStr;

use ocelli::eval::svm::{VISSL_COSTS, openselfsup_costs};

/// Costs to choose from.
#[derive(Debug, Clone, PartialEq)]
pub struct Costs {
    /// Its name, where it has one.
    pub name: Option<&'static str>,
    /// In the order in which equally good ones are preferred.
    pub values: Vec<f64>,
}

impl FromStr for Costs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "openselfsup" => return Ok(Self { name: Some("openselfsup"), values: openselfsup_costs() }),
            "vissl" => return Ok(Self { name: Some("vissl"), values: VISSL_COSTS.to_vec() }),
            _ => {}
        }
        let cost = |word: &str| word.trim().parse::<f64>().ok().filter(|c| c.is_finite() && *c > 0.0);
        match text.split(',').map(cost).collect() {
            Some(values) => Ok(Self { name: None, values }),
            None => {
                Err("expected openselfsup, vissl, or numbers above 0 with commas between, such as 0.01,1,100"
                    .into())
            }
        }
    }
}

/// A cost in few characters: powers of one half below 1/32 as such.
pub fn shown(cost: f64) -> String {
    let power = -cost.log2();
    match power.fract() == 0.0 && power > 5.0 {
        true => format!("2^-{power}"),
        false => cost.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!("openselfsup".parse::<Costs>().unwrap().values.len(), 19);
        assert_eq!("vissl".parse::<Costs>().unwrap().name, Some("vissl"));
        assert_eq!("10, 0.5".parse::<Costs>().unwrap().values, [10.0, 0.5]);
        for text in ["", "1,,2", "0", "-1", "nan", "inf", "voc"] {
            assert!(text.parse::<Costs>().unwrap_err().contains("openselfsup, vissl"), "{text}");
        }
        assert_eq!([0.5f64.powi(12), 0.0625, 100.0].map(shown), ["2^-12", "0.0625", "100"]);
    }
}
