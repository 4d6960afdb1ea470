//! Kubernetes quantities (`500m`, `1.5Gi`, `2e3`): parsing, canonical text and arithmetic, exactly as apimachinery's
//! resource.Quantity.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

/// Digits after the decimal point are kept to nano; what is finer is rounded away from zero.
const NANO: i32 = -9;
/// Numbers of more digits than this take the slow, capped way of [`parse_slow`].
const FAST_DIGITS_MAX: usize = 18;
/// The cap of numbers that take the slow way: the largest int64.
const CAP: i128 = i64::MAX as i128;
/// Exponents beyond this are refused; no resource is counted in 10^1000.
const EXPONENT_MAX: i32 = 1000;

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// Which suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `n u m k M G T P E`.
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// `e3`.
    DecimalExponent,
}

/// `mantissa × 10^scale`. Equality and order are by value, so `1` equals `1000m`.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    mantissa: i128,
    scale: i32,
    format: Format,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity {
        mantissa: 0,
        scale: 0,
        format: Format::DecimalSi,
    };

    /// Reads a quantity; a JSON number is read from its text.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let parts = split(text)?;
        let (base, exponent, format) = suffix(parts.suffix).ok_or(QuantityError::Suffix)?;
        let whole = parts.whole.trim_start_matches('0');
        let digits = whole.len() + parts.fraction.len();
        let scale = if base == 10 { exponent } else { 0 } - parts.fraction.len() as i32;
        let fast = match base {
            10 => digits <= FAST_DIGITS_MAX && scale >= NANO,
            _ => parts.fraction.is_empty() && digits <= FAST_DIGITS_MAX,
        };
        let mut quantity = if fast {
            let number = parse_digits(whole).saturating_mul(10i128.pow(parts.fraction.len() as u32));
            let factor = if base == 2 { 1i128 << exponent } else { 1 };
            let mantissa = (number + parse_digits(parts.fraction)) * factor;
            // The largest binary numbers do not fit an int64 and are capped.
            let mantissa = if base == 2 { mantissa.min(CAP) } else { mantissa };
            Quantity {
                mantissa,
                scale,
                format,
            }
        } else {
            parse_slow(whole, parts.fraction, base, exponent, format)
        };
        if parts.negative {
            quantity.mantissa = -quantity.mantissa;
        }
        Ok(quantity)
    }
    /// A plain number in decimal format.
    pub const fn from_i64(value: i64) -> Self {
        Quantity {
            mantissa: value as i128,
            scale: 0,
            format: Format::DecimalSi,
        }
    }
    /// Thousandths in decimal format.
    pub const fn from_milli(value: i64) -> Self {
        Quantity {
            mantissa: value as i128,
            scale: -3,
            format: Format::DecimalSi,
        }
    }
    /// A plain number in a format of choice (`BinarySi` for memory).
    pub const fn new(value: i64, format: Format) -> Self {
        Quantity {
            mantissa: value as i128,
            scale: 0,
            format,
        }
    }
    pub fn format(&self) -> Format {
        self.format
    }
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }
    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.mantissa.signum() as i32
    }
    /// The value, rounded away from zero to a whole number; beyond int64 it is the nearest int64.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }
    /// The same in thousandths.
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }
    fn scaled(&self, scale: i32) -> i64 {
        saturate(self.at_scale(scale))
    }
    /// The mantissa at another scale, rounded away from zero; saturated.
    fn at_scale(&self, scale: i32) -> i128 {
        let places = self.scale - scale;
        if self.mantissa == 0 {
            0
        } else if places >= 0 {
            pow10(places)
                .and_then(|factor| self.mantissa.checked_mul(factor))
                .unwrap_or(saturated(self.mantissa))
        } else {
            let Some(divisor) = pow10(-places) else {
                return self.mantissa.signum();
            };
            let (quotient, rest) = (self.mantissa / divisor, self.mantissa % divisor);
            quotient + rest.signum()
        }
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn saturated(sign_of: i128) -> i128 {
    if sign_of < 0 { -i128::MAX } else { i128::MAX }
}

fn pow10(exponent: i32) -> Option<i128> {
    10i128.checked_pow(u32::try_from(exponent).ok()?)
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let whole_end = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, mut rest) = rest.split_at(whole_end);
    let mut fraction = "";
    let point = rest.starts_with('.');
    if point {
        let end = 1 + rest[1..].bytes().take_while(u8::is_ascii_digit).count();
        fraction = &rest[1..end];
        rest = &rest[end..];
    }
    if whole.is_empty() && !point {
        return Err(QuantityError::Format);
    }
    let letters = rest.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let after = &rest.as_bytes()[letters..];
    let after = after.strip_prefix(b"-").or(after.strip_prefix(b"+")).unwrap_or(after);
    if !after.iter().all(u8::is_ascii_digit) {
        return Err(QuantityError::Format);
    }
    Ok(Parts {
        negative,
        whole,
        fraction,
        suffix: rest,
    })
}

/// Base, exponent and format of a suffix.
fn suffix(text: &str) -> Option<(u32, i32, Format)> {
    let decimal = |exponent| Some((10, exponent, Format::DecimalSi));
    let binary = |exponent| Some((2, exponent, Format::BinarySi));
    match text {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i32 = text.strip_prefix(['e', 'E'])?.parse().ok()?;
            (exponent.abs() <= EXPONENT_MAX).then_some((10, exponent, Format::DecimalExponent))
        }
    }
}

/// At most 38 digits.
fn parse_digits(text: &str) -> i128 {
    text.bytes().fold(0, |sum, digit| sum * 10 + i128::from(digit - b'0'))
}

/// Numbers with many digits, with parts finer than nano, or with a binary suffix on a fraction: rounded up to nano and
/// capped at the largest int64.
fn parse_slow(whole: &str, fraction: &str, base: u32, exponent: i32, format: Format) -> Quantity {
    let capped = Quantity {
        mantissa: CAP,
        scale: 0,
        format,
    };
    // Digits with the point moved, so that `whole` is what stands before it.
    let (whole, fraction) = if base == 10 {
        shift(whole, fraction, exponent)
    } else {
        (whole.into(), fraction.into())
    };
    let whole = whole.trim_start_matches('0');
    if whole.len() > 19 {
        return capped;
    }
    // Twenty digits times 2^60 just fit 128 bits; digits after those can only matter for rounding up.
    let factor: u128 = if base == 2 { 1 << exponent } else { 1 };
    let (kept, cut) = fraction.split_at(fraction.len().min(20));
    let sticky = cut.bytes().any(|digit| digit != b'0');
    let kept = format!("{kept:0<20}");
    let part = kept
        .bytes()
        .fold(0u128, |sum, digit| sum * 10 + u128::from(digit - b'0'))
        * factor;
    let divisor = 10u128.pow(11);
    let nanos = part / divisor + u128::from(!part.is_multiple_of(divisor) || sticky);
    let whole = parse_digits(whole) as u128 * factor;
    if whole >= CAP as u128 {
        return capped;
    }
    let mantissa = (whole * 1_000_000_000 + nanos) as i128;
    if mantissa > CAP * 1_000_000_000 {
        return capped;
    }
    // Small binary numbers are shown in decimal, which avoids rounding.
    let small = format == Format::BinarySi && mantissa > 0 && mantissa < 1_000_000_000;
    Quantity {
        mantissa,
        scale: NANO,
        format: if small { Format::DecimalSi } else { format },
    }
}

/// Moves the decimal point.
fn shift(whole: &str, fraction: &str, exponent: i32) -> (String, String) {
    let places = exponent.unsigned_abs() as usize;
    if exponent >= 0 {
        let taken = fraction.len().min(places);
        let zeros = "0".repeat(places - taken);
        (
            format!("{whole}{}{zeros}", &fraction[..taken]),
            fraction[taken..].to_owned(),
        )
    } else {
        let padded = format!("{whole:0>places$}");
        let (left, right) = padded.split_at(padded.len() - places);
        (left.to_owned(), format!("{right}{fraction}"))
    }
}

impl fmt::Display for Quantity {
    /// The canonical text: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi
            && !self.is_below_1024()
            && let Some(mut number) = self.whole()
        {
            let mut power = 0;
            while number % 1024 == 0 && power < 6 {
                number /= 1024;
                power += 1;
            }
            return write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut number, mut exponent) = (self.mantissa, self.scale);
        while number % 10 == 0 {
            number /= 10;
            exponent += 1;
        }
        let surplus = exponent.rem_euclid(3);
        number = number.saturating_mul(10i128.pow(surplus as u32));
        exponent -= surplus;
        match (self.format, exponent) {
            (_, 0) => write!(f, "{number}"),
            (Format::DecimalExponent, _) => write!(f, "{number}e{exponent}"),
            (_, ..=18) => {
                let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][((exponent + 9) / 3) as usize];
                write!(f, "{number}{suffix}")
            }
            // There is no larger suffix.
            (_, _) => write!(f, "{number}{}E", "0".repeat((exponent - 18) as usize)),
        }
    }
}

impl Quantity {
    fn is_below_1024(&self) -> bool {
        *self < Quantity::from_i64(1024) && *self > Quantity::from_i64(-1024)
    }
    /// The value if it is whole and fits.
    fn whole(&self) -> Option<i128> {
        let number = self.at_scale(0);
        (Quantity {
            mantissa: number,
            scale: 0,
            format: self.format,
        } == *self)
            .then_some(number)
    }
}

impl Add for Quantity {
    type Output = Self;
    /// Sum; the format is the left one's, unless that is zero.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        // The finer scale keeps every digit. Sums of quantities beyond 10^28 may overflow it and are capped, at a
        // number that can still be negated.
        let scale = self.scale.min(other.scale);
        let mantissa = self
            .at_scale(scale)
            .saturating_add(other.at_scale(scale))
            .max(-i128::MAX);
        Quantity {
            mantissa,
            scale,
            format,
        }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Quantity {
    type Output = Self;
    /// Difference, with the format of a sum.
    fn sub(self, other: Self) -> Self {
        self + Quantity {
            mantissa: -other.mantissa,
            ..other
        }
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.mantissa.signum().cmp(&other.mantissa.signum());
        if signs != Ordering::Equal || self.mantissa == 0 {
            return signs;
        }
        let (fine, coarse, swapped) = if self.scale <= other.scale {
            (self, other, false)
        } else {
            (other, self, true)
        };
        let factor = pow10(coarse.scale - fine.scale).and_then(|factor| coarse.mantissa.checked_mul(factor));
        let order = match factor {
            Some(coarse) => fine.mantissa.cmp(&coarse),
            // The coarser one is larger than anything that fits.
            None if fine.mantissa > 0 => Ordering::Less,
            None => Ordering::Greater,
        };
        if swapped { order.reverse() } else { order }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}
