//! Bytes as JSON carries them: a text that everybody can read, and beside it the exact bytes in base64
//! whenever the text alone would lose some.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The text of some bytes, and their base64 if they are not UTF-8.
pub(crate) fn split(bytes: Vec<u8>) -> (String, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let bytes = error.as_bytes();
            (String::from_utf8_lossy(bytes).into_owned(), Some(STANDARD.encode(bytes)))
        }
    }
}

/// The bytes that were [`split`]. The text counts where the base64 is none.
pub(crate) fn join(text: String, base64: Option<&str>) -> Vec<u8> {
    base64.and_then(|exact| STANDARD.decode(exact).ok()).unwrap_or_else(|| text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_split_is_joined(bytes in any::<Vec<u8>>()) {
            let (text, exact) = split(bytes.clone());
            prop_assert_eq!(exact.is_none(), std::str::from_utf8(&bytes).is_ok());
            prop_assert_eq!(join(text, exact.as_deref()), bytes);
        }
    }
}
