//! Texts in, canonical texts, values and errors out.

use super::*;
use proptest::prelude::*;

fn canonical(text: &str) -> String {
    Quantity::parse(text).map_or_else(|error| error.to_string(), |quantity| quantity.to_string())
}

#[test]
fn canonical_texts_are_those_of_kubernetes() {
    let cases = [
        ("0", "0"),
        ("0n", "0"),
        ("-0Ki", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("1.0", "1"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1024Ki", "1Mi"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("0.0001Ki", "102400u"),
        ("1Ki", "1Ki"),
        ("1000Ki", "1000Ki"),
        ("100Mi", "100Mi"),
        ("1e3", "1e3"),
        ("1e4", "10e3"),
        ("1E3", "1e3"),
        ("1e-3", "1e-3"),
        ("1E", "1E"),
        ("1e0", "1"),
        ("12e1", "120"),
        ("0.000000001", "1n"),
        ("0.0000000001", "1n"),
        ("-0.0000000001", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("-1.5", "-1500m"),
        ("100000000000000000000", "9223372036854775807"),
        ("9223372036854775807", "9223372036854775807"),
        ("9999999999999999999", "9223372036854775807"),
        ("8Ei", "9223372036854775807"),
        ("7Ei", "7Ei"),
        ("00012", "12"),
        ("3.001", "3001m"),
        ("123456789123456789", "123456789123456789"),
    ];
    for (text, expected) in cases {
        assert_eq!(canonical(text), expected, "{text}");
    }
}

#[test]
fn errors_are_worded_as_kubernetes_words_them() {
    for text in [
        "", "abc", "-", "1.1.M", "1+1.0M", "0.1am", "aoeu", " 1", "1 ", "1k0x", "m", "１",
    ] {
        assert_eq!(Quantity::parse(text).err(), Some(QuantityError::Format), "{text}");
    }
    for text in [
        "1i",
        "-3.01i",
        "-3.01e-",
        "1K",
        "1ki",
        "1MiB0".trim_end_matches("B0"),
        "0.1mi",
        "1ee",
        "1k5",
    ] {
        let expected = if text == "1Mi" {
            None
        } else {
            Some(QuantityError::Suffix)
        };
        assert_eq!(Quantity::parse(text).err(), expected, "{text}");
    }
    assert_eq!(
        canonical("x"),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    );
}

#[test]
fn values_round_away_from_zero() {
    let quantity = |text| Quantity::parse(text).unwrap();
    assert_eq!((quantity("1.2").value(), quantity("1.2").milli_value()), (2, 1200));
    assert_eq!((quantity("-1.2").value(), quantity("1n").milli_value()), (-2, 1));
    assert_eq!(quantity("1Gi").value(), 1 << 30);
    assert_eq!(quantity("1e30").value(), i64::MAX);
}

#[test]
fn sums_keep_every_digit_and_the_first_format() {
    let quantity = |text| Quantity::parse(text).unwrap();
    assert_eq!((quantity("1Gi") + quantity("1Ki")).to_string(), "1048577Ki");
    assert_eq!((quantity("0") + quantity("1Gi")).to_string(), "1Gi");
    assert_eq!((quantity("1") - quantity("250m")).to_string(), "750m");
    assert_eq!(quantity("1") - quantity("1000m"), Quantity::ZERO);
    let _ = (quantity("-1e900") - quantity("0.12345678") - quantity("1e900")).to_string();
    assert!(quantity("1e900") + quantity("1n") > quantity("1E"));
}

#[test]
fn order_is_by_value_without_loss() {
    let quantity = |text| Quantity::parse(text).unwrap();
    assert_eq!(quantity("1"), quantity("1000m"));
    assert!(quantity("9223372036854775806") < quantity("9223372036854775807"));
    assert!(quantity("1e900") > quantity("999999999999999999E"));
    assert!(quantity("-1e900") < quantity("1n"));
}

proptest! {
    #[test]
    fn a_canonical_text_is_its_own_canonical_text(number in -1_000_000_000i64..1_000_000_000, scale in 0usize..16) {
        let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "e5", "e-3"];
        let quantity = Quantity::parse(&format!("{number}{}", suffixes[scale])).unwrap();
        let again = Quantity::parse(&quantity.to_string()).unwrap();
        prop_assert_eq!(again, quantity);
        prop_assert_eq!(again.to_string(), quantity.to_string());
    }
    #[test]
    fn no_text_panics(
        text in "[-+]?[0-9.]{0,45}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,5}",
        other in "-?[0-9]{1,18}[.]?[0-9]{0,10}(e-?[0-9]{1,3}|Ei)?",
    ) {
        if let (Ok(quantity), Ok(other)) = (Quantity::parse(&text), Quantity::parse(&other)) {
            for quantity in [quantity, other, quantity + other, quantity - other, other + other, other - quantity - other] {
                let _ = (quantity.to_string(), quantity.value(), quantity.milli_value(), quantity < other);
            }
        }
    }
}
