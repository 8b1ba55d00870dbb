//! One-time passwords by time (RFC 6238), from what KeePassXC keeps in an entry.

use std::fmt::Write;

use keepass::db::TOTP;
use zeroize::Zeroizing;

/// Digits that give the whole number of RFC 4226, of 31 bits.
const ALL_DIGITS: u32 = 10;
/// Letters of the codes of Steam, which are numbers of base 26.
const STEAM: &[u8; 26] = b"23456789BCDFGHJKMNPQRTVWXY";
const STEAM_LEN: usize = 5;

/// An entry's secret for one-time passwords, with what is agreed about the codes.
pub(crate) struct Otp {
    secret: Zeroizing<String>,
    algorithm: &'static str,
    /// Seconds.
    period: u64,
    format: Format,
}

enum Format {
    Digits(u32),
    Steam,
}

/// What an entry holds is no secret for one-time passwords. Its text is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OtpError(&'static str);

impl Otp {
    /// Reads KeePassXC's attribute `otp`: an `otpauth://totp/` URL, or the `key=` form of KeeOtp.
    ///
    /// Without a word about it, a code has 6 digits, lasts 30 seconds, and is made with SHA-1.
    pub(crate) fn from_attribute(text: &str) -> Result<Self, OtpError> {
        let (query, secret_name) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("otpauth") => {
                if !rest.get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("totp/")) {
                    return Err(OtpError("its one-time passwords are not by time (`otpauth://totp/`)"));
                }
                (rest.split_once('?').map_or("", |(_, query)| query), "secret")
            }
            _ => (text, "key"),
        };
        let get = |names: &[&str]| {
            let pairs = query.split('#').next().unwrap_or_default().split('&');
            let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| names.contains(name)).map(|(_, value)| percent_decoded(value))
        };
        let secret = get(&[secret_name]).ok_or(OtpError("no secret is in its `otp` attribute"))?;
        let format = match get(&["encoder"]).as_deref().map(String::as_str) {
            Some("steam") => Format::Steam,
            _ => Format::Digits(number(get(&["digits", "size"]), 6)?),
        };
        let algorithm = get(&["algorithm", "otpHashMode"]).unwrap_or_default();
        Self::new(&secret, &algorithm, number(get(&["period", "step"]), 30)?, format)
    }

    /// Reads the older attributes `TOTP Seed` and `TOTP Settings`; the latter are `<seconds>;<digits>`, or `<seconds>;S`
    /// for Steam.
    pub(crate) fn from_seed(seed: &str, settings: Option<&str>) -> Result<Self, OtpError> {
        let mut parts = settings.unwrap_or("30;6").split(';').map(str::trim);
        let part = |part: Option<&str>| part.map(|part| Zeroizing::new(part.to_owned()));
        let period = number(part(parts.next()), 30)?;
        let format = match parts.next() {
            Some("S") => Format::Steam,
            digits => Format::Digits(number(part(digits), 6)?),
        };
        Self::new(seed, "", period, format)
    }

    fn new(secret: &str, algorithm: &str, period: u64, format: Format) -> Result<Self, OtpError> {
        let algorithm = match algorithm.to_ascii_uppercase().replace('-', "").as_str() {
            "" | "SHA1" | "HMACSHA1" => "SHA1",
            "SHA256" | "HMACSHA256" => "SHA256",
            "SHA512" | "HMACSHA512" => "SHA512",
            _ => return Err(OtpError("the algorithm of its one-time passwords is not known")),
        };
        if !(1..=86_400).contains(&period) {
            return Err(OtpError("a one-time password cannot last for what its entry says"));
        }
        if let Format::Digits(digits) = format
            && !(1..=ALL_DIGITS).contains(&digits)
        {
            return Err(OtpError("a one-time password cannot have as many digits as its entry says"));
        }
        // As KeePassXC reads it: spaces and dashes are for people, and three digits stand for the letters they look like.
        let mut base32 = Zeroizing::new(String::with_capacity(secret.len() + 8));
        for char in secret.chars().map(|char| char.to_ascii_uppercase()) {
            match char {
                '0' => base32.push('O'),
                '1' => base32.push('L'),
                '8' => base32.push('B'),
                'A'..='Z' | '2'..='7' => base32.push(char),
                ' ' | '-' | '=' => {}
                _ => return Err(OtpError("the secret of its one-time passwords is not base32")),
            }
        }
        if base32.is_empty() {
            return Err(OtpError("the secret of its one-time passwords is empty"));
        }
        while !base32.len().is_multiple_of(8) {
            base32.push('=');
        }
        Ok(Self { secret: base32, algorithm, period, format })
    }

    /// The code at the second `now` since 1970.
    pub(crate) fn code(&self, now: u64) -> Result<Zeroizing<Vec<u8>>, OtpError> {
        let mut url = Zeroizing::new(String::with_capacity(self.secret.len() + 96));
        let written = write!(
            url,
            "otpauth://totp/?algorithm={}&period={}&digits={ALL_DIGITS}&secret={}",
            self.algorithm, self.period, *self.secret
        );
        let totp: Option<TOTP> = written.ok().and_then(|()| url.parse().ok());
        let totp = totp.ok_or(OtpError("the secret of its one-time passwords is not base32"))?;
        let all = Zeroizing::new(totp.value_at(now).code);
        let mut number: u64 = all.parse().map_err(|_| OtpError("its one-time password is not a number"))?;
        Ok(Zeroizing::new(match self.format {
            Format::Digits(digits) => {
                let number = number % 10_u64.pow(digits);
                format!("{number:0width$}", width = digits as usize).into_bytes()
            }
            Format::Steam => {
                let mut code = Vec::with_capacity(STEAM_LEN);
                for _ in 0..STEAM_LEN {
                    code.extend(STEAM.get((number % 26) as usize));
                    number /= 26;
                }
                code
            }
        }))
    }
}

/// The number in `text`, or `default` where there is none.
fn number<T: std::str::FromStr>(text: Option<Zeroizing<String>>, default: T) -> Result<T, OtpError> {
    match text.as_deref().map(String::as_str) {
        None | Some("") => Ok(default),
        Some(text) => {
            text.parse().map_err(|_| OtpError("a setting of its one-time passwords is not a number"))
        }
    }
}

/// `text` with each `%` and two hex digits as the byte that they stand for.
fn percent_decoded(text: &str) -> Zeroizing<String> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(escaped) if byte == b'%' => {
                decoded.push(escaped);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    Zeroizing::new(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(attribute: &str, now: u64) -> String {
        String::from_utf8(Otp::from_attribute(attribute).unwrap().code(now).unwrap().to_vec()).unwrap()
    }

    /// The table of RFC 6238, appendix B. Each algorithm has a secret of the length of its hash.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let sha1 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let sha256 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA";
        let sha512 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNA";
        let table = [
            (59, ["94287082", "46119246", "90693936"]),
            (1_111_111_109, ["07081804", "68084774", "25091201"]),
            (1_111_111_111, ["14050471", "67062674", "99943326"]),
            (1_234_567_890, ["89005924", "91819424", "93441116"]),
            (2_000_000_000, ["69279037", "90698825", "38618901"]),
            (20_000_000_000, ["65353130", "77737706", "47863826"]),
        ];
        for (now, expected) in table {
            for ((secret, algorithm), expected) in
                [(sha1, "SHA1"), (sha256, "SHA256"), (sha512, "SHA512")].into_iter().zip(expected)
            {
                let url = format!("otpauth://totp/a:b?secret={secret}&digits=8&algorithm={algorithm}");
                assert_eq!(code(&url, now), expected, "{algorithm} at {now}");
            }
        }
    }

    #[test]
    fn all_spellings_of_a_secret_and_its_settings_are_read() {
        let table = [
            "otpauth://totp/KeePassXC:none?secret=JBSWY3DPEHPK3PXP&period=30&digits=6&issuer=KeePassXC",
            "otpauth://totp/KeePassXC:none?secret=JBSWY3DPEHPK3PXP",
            "otpauth://totp/x?issuer=a%26secret%3Db&secret=jbsw%20y3dp-ehpk-3pxp%3D%3D&algorithm=sha1",
            "OTPAUTH://TOTP/x?secret=JBSWY3DPEHPK3PXP&period=&digits=#fragment",
            "key=JBSWY3DPEHPK3PXP&step=30&size=6&otpHashMode=Sha1",
        ];
        for attribute in table {
            assert_eq!(code(attribute, 1234), "806863", "{attribute}");
        }
        for settings in [None, Some("30;6"), Some(""), Some("30")] {
            let otp = Otp::from_seed("JBSW Y3DP EHPK 3PXP", settings).unwrap();
            assert_eq!(**otp.code(1234).unwrap(), *b"806863", "{settings:?}");
        }
    }

    #[test]
    fn steam_has_letters() {
        let url = "otpauth://totp/Steam:x?secret=63BEDWCQZKTQWPESARIERL5DTTQFCJTK&encoder=steam";
        assert_eq!(code(url, 1_511_200_518), "FR8RV");
        assert_eq!(code(url, 1_511_200_714), "9P3VP");
        let otp = Otp::from_seed("63BEDWCQZKTQWPESARIERL5DTTQFCJTK", Some("30;S")).unwrap();
        assert_eq!(**otp.code(1_511_200_518).unwrap(), *b"FR8RV");
    }

    #[test]
    fn what_gives_no_code_is_refused_without_its_text() {
        let table = [
            "",
            "HUNTER2HUNTER2",
            "otpauth://hotp/x?secret=HUNTER2HUNTER2&counter=1",
            "otpauth://totp/x?issuer=HUNTER2",
            "otpauth://totp/x?secret=",
            "otpauth://totp/x?secret=HUNTER2%00",
            "otpauth://totp/x?secret=HUNTER2HUNTER2&period=0",
            "otpauth://totp/x?secret=HUNTER2HUNTER2&period=18446744073709551615",
            "otpauth://totp/x?secret=HUNTER2HUNTER2&digits=0",
            "otpauth://totp/x?secret=HUNTER2HUNTER2&digits=11",
            "otpauth://totp/x?secret=HUNTER2HUNTER2&digits=HUNTER2",
            "otpauth://totp/x?secret=HUNTER2HUNTER2&algorithm=MD5",
        ];
        for attribute in table {
            let error = Otp::from_attribute(attribute).err().unwrap().to_string();
            assert!(!error.contains("HUNTER2"), "{attribute}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(otpauth://totp/)?\\PC{0,12}[?]?(secret=[a-z2-7]{1,9})?&?(digits|period|encoder)?=?\\PC{0,9}", now: u64) {
            if let Ok(otp) = Otp::from_attribute(&text) {
                let _ = otp.code(now);
            }
            if let Ok(otp) = Otp::from_seed(&text, Some(&text)) {
                let _ = otp.code(now);
            }
        }
    }
}
