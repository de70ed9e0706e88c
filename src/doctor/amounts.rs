//! Texts of Kubernetes quantities become numbers that can be added, and texts again.

/// Thousandths of a unit. An amount that is no quantity is `None`.
pub fn milli(text: &str) -> Option<i128> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    // Thousandths for each unit, as `resource.Quantity` of the Kubernetes API names them.
    let factor: i128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1000 * 1000,
        "M" => 1000 * 1000_i128.pow(2),
        "G" => 1000 * 1000_i128.pow(3),
        "T" => 1000 * 1000_i128.pow(4),
        "P" => 1000 * 1000_i128.pow(5),
        "E" => 1000 * 1000_i128.pow(6),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        "Ei" => 1000 << 60,
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            1000_i128.checked_mul(10_i128.checked_pow(power)?)?
        }
    };
    digits.checked_mul(factor)?.checked_div(scale)
}

/// The shortest text of an amount that Kubernetes reads as it, rounded up to whole bytes.
pub fn text(milli: i128) -> String {
    if milli % 1000 != 0 {
        return format!("{milli}m");
    }
    let units = milli / 1000;
    let binary = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    for (suffix, bits) in binary {
        if units != 0 && units % (1 << bits) == 0 {
            return format!("{}{suffix}", units >> bits);
        }
    }
    units.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        for (given, written) in [
            ("2", "2"),
            ("500m", "500m"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("4Gi", "4Gi"),
            ("1e3", "1000"),
            ("1k", "1000"),
            ("21474836480", "20Gi"),
            ("0", "0"),
        ] {
            assert_eq!(milli(given).map(text).as_deref(), Some(written), "{given}");
        }
        for wrong in ["", "x", "1x", "-", "1.2.3"] {
            assert_eq!(milli(wrong), None, "{wrong}");
        }
    }
}
