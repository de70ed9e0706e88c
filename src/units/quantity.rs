//! Kubernetes quantity text (`500m`, `4Gi`) becomes a checked [`Quantity`].
//!
//! The text itself is kept, so that what a person wrote is what the API server gets (its rule: `resource.Quantity`
//! in the Kubernetes API reference); parsing only proves that it is a positive amount.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kube_quantity::ParsedQuantity;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A positive amount of a resource.
#[derive(Clone, Debug)]
pub struct Quantity {
    text: String,
    value: ParsedQuantity,
}

/// Why a text is not a positive quantity.
#[derive(Clone, Debug, PartialEq, Eq, snafu::Snafu)]
#[snafu(display("a positive Kubernetes quantity such as 2, 500m or 4Gi"))]
pub struct ParseError;

impl Quantity {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// In whole bytes; `None` below one, and above what can be counted.
    pub fn bytes(&self) -> Option<u64> {
        self.value.to_bytes_u64().filter(|bytes| *bytes > 0)
    }

    /// The form that Kubernetes objects hold.
    pub fn to_api(&self) -> ApiQuantity {
        ApiQuantity(self.text.clone())
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let value = ParsedQuantity::try_from(text).map_err(|_| ParseError)?;
        let zero = ParsedQuantity::try_from("0").map_err(|_| ParseError)?;
        if value.partial_cmp(&zero) != Some(Ordering::Greater) {
            return Err(ParseError);
        }
        Ok(Self {
            text: text.to_owned(),
            value,
        })
    }
}

impl PartialEq for Quantity {
    /// Equal amounts are equal, however they are written: `1000m` is `1`.
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_amounts_not_texts() {
        let q = |text: &str| text.parse::<Quantity>().expect(text);
        assert_eq!(q("1000m"), q("1"));
        assert_eq!(q("1024Mi"), q("1Gi"));
        assert!(q("1500m") > q("1"));
        assert!(q("20Gi") > q("20G"));
    }

    #[test]
    fn refuses_what_is_no_positive_amount() {
        for text in ["", "0", "-1", "two", "4GiB", "1 Gi", "4gi"] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?} was taken");
        }
    }
}
