//! E-mail addresses and usernames: what they may be, and when two are the same.
//!
//! They are compared by a key: compatibility forms made one (Unicode NFKC: full-width letters, ligatures, letters with their
//! accents apart), without case, and for usernames without what nobody sees. Letters of different scripts that look alike (a
//! Cyrillic `а` and a Latin one) stay different.

use shared::accounts::comparable;

/// The most characters of an address (RFC 5321, 4.5.3.1.3, less the brackets).
const EMAIL_LENGTH_MAX: usize = 254;
/// The most characters of a username.
const USERNAME_LENGTH_MAX: usize = 64;
/// The most characters of a key: one of a username can become many.
const KEY_LENGTH_MAX: usize = 256;
const BAD_EMAIL: &str = "must be an e-mail address of at most 254 characters";
const BAD_USERNAME: &str = "must have 1 to 64 characters, not only white space, and no control characters";

/// What nobody sees (the property Default_Ignorable_Code_Point of Unicode).
const INVISIBLE: [std::ops::RangeInclusive<char>; 17] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fff8}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// An e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// As it was sent.
    pub text: String,
    /// As it is compared.
    pub key: String,
}

/// The name of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    /// As it was sent.
    pub text: String,
    /// As it is compared.
    pub key: String,
}

impl Email {
    /// Takes a local part and a domain: one `@` between them, nothing invisible, no white space. The rest is the mail server's
    /// to know.
    ///
    /// # Errors
    /// What it has to be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.chars().count() > EMAIL_LENGTH_MAX {
            return Err(BAD_EMAIL);
        }
        let key = comparable(text);
        // What it is compared by counts: a full-width `＠` is one, too.
        let has_parts = key.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@') && !domain.starts_with('.')
        });
        let is_plain = |letter: char| !letter.is_control() && !letter.is_whitespace() && !is_invisible(letter);
        let fits = key.chars().count() <= EMAIL_LENGTH_MAX;
        if has_parts && fits && text.chars().chain(key.chars()).all(is_plain) {
            Ok(Self { text: text.to_owned(), key })
        } else {
            Err(BAD_EMAIL)
        }
    }
}

impl Username {
    /// Takes any script.
    ///
    /// # Errors
    /// What it has to be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.chars().count() > USERNAME_LENGTH_MAX || text.chars().any(char::is_control) {
            return Err(BAD_USERNAME);
        }
        let visible: String = text.chars().filter(|letter| !is_invisible(*letter)).collect();
        let key = comparable(&visible).split_whitespace().collect::<Vec<_>>().join(" ");
        if key.is_empty() || key.chars().count() > KEY_LENGTH_MAX {
            return Err(BAD_USERNAME);
        }
        Ok(Self { text: text.to_owned(), key })
    }
}

fn is_invisible(letter: char) -> bool {
    INVISIBLE.iter().any(|range| range.contains(&letter))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_that_look_alike_are_one() {
        let key = Email::parse("ann.lee@example.com").unwrap().key;
        for same in ["Ann.Lee@EXAMPLE.com", "ａｎｎ．ｌｅｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", "ann.lee@exam\u{1d429}le.com"]
        {
            assert_eq!(Email::parse(same).unwrap().key, key, "{same}");
        }
        assert_eq!(Email::parse("Zoe\u{308}@x").unwrap().key, Email::parse("ZO\u{cb}@X").unwrap().key);
        assert_eq!(Email::parse("ﬁ@x").unwrap().key, "fi@x");
        assert_ne!(Email::parse("\u{430}nn@example.com").unwrap().key, "ann@example.com", "a Cyrillic letter");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@x", "a".repeat(253));
        let grows = format!("{}@x", "\u{fdfa}".repeat(100));
        for bad in [
            "",
            "ann",
            "@",
            "ann@",
            "@example.com",
            "ann@.com",
            "a@b@c",
            "a＠b@c",
            "ann @example.com",
            "ann@exam\u{a0}ple.com",
            "ann\u{200b}@example.com",
            "a\u{ad}nn@example.com",
            "ann\0@example.com",
            "ann@example.com\n",
            &long,
            &grows,
        ] {
            assert_eq!(Email::parse(bad), Err(BAD_EMAIL), "{bad}");
        }
        assert!(Email::parse(&long[1..]).is_ok());
    }

    #[test]
    fn usernames_that_look_alike_are_one() {
        let key = Username::parse("Ann Lee").unwrap().key;
        for same in ["ann lee", " ann\u{3000} lee ", "ANN\u{200b} LEE", "Ａｎｎ Ｌｅｅ"] {
            assert_eq!(Username::parse(same).unwrap().key, key, "{same}");
        }
        for bad in ["", " ", "\u{200b}", "a\0b", "a\nb", &"x".repeat(65), &"\u{fdfa}".repeat(64)] {
            assert_eq!(Username::parse(bad), Err(BAD_USERNAME), "{bad:?}");
        }
        assert!(Username::parse(&"😀".repeat(64)).is_ok());
    }

    proptest! {
        #[test]
        fn a_key_is_its_own_key(text in "\\PC{1,64}") {
            if let Ok(name) = Username::parse(&text) {
                prop_assert_eq!(&Username::parse(&name.key).map_or(name.key.clone(), |again| again.key), &name.key);
            }
        }
    }
}
