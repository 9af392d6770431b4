//! Who may talk to a server over HTTP: whoever has its token.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pyro_contract::env_vars::PYRO_MCP_TOKEN;
use pyro_contract::{Error, ErrorCode, Result};
use sha2::{Digest as _, Sha256};

/// Fewer characters could be guessed.
const LEAST_LENGTH: usize = 16;
/// More are no token.
const MOST_LENGTH: u64 = 4096;

/// The secret that requests carry. Kept as its digest, so that comparing takes the same time however
/// much of it was guessed.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The one of `PYRO_MCP_TOKEN`, if that is set.
    pub fn from_environment() -> Result<Option<Self>> {
        match std::env::var(PYRO_MCP_TOKEN) {
            Ok(text) => Self::parse(&text, PYRO_MCP_TOKEN).map(Some),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{PYRO_MCP_TOKEN} cannot be read"),
            )
            .with_cause(error.to_string())
            .with_hint("set it to printable ASCII")),
        }
    }

    /// The one in a file that nobody else can read; a new one if there is no such file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let failed = |error: &std::io::Error| {
            Error::io(format!("cannot use the token file {}", path.display()), error)
        };
        let mut open = OpenOptions::new();
        match open.write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                written.map_err(|error| {
                    let _ = fs::remove_file(path);
                    failed(&error)
                })?;
                Ok(Self::of(&text))
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::read(path),
            Err(error) => Err(failed(&error)),
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let failed = |error: &std::io::Error| {
            Error::io(format!("cannot read the token file {}", path.display()), error)
        };
        let file = fs::File::open(path).map_err(|error| failed(&error))?;
        let meta = file.metadata().map_err(|error| failed(&error))?;
        let owner = rustix::process::geteuid().as_raw();
        if meta.permissions().mode() & 0o077 != 0 || (meta.uid() != owner && meta.uid() != 0) {
            return Err(Error::new(
                ErrorCode::PermissionDenied,
                format!("others can read or change the token file {}", path.display()),
            )
            .with_hint(format!("chmod 600 {0}, or remove it for a new token", path.display())));
        }
        let mut text = String::new();
        file.take(MOST_LENGTH).read_to_string(&mut text).map_err(|error| failed(&error))?;
        Self::parse(text.trim(), &path.display().to_string())
    }

    fn parse(text: &str, source: &str) -> Result<Self> {
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.len() < LEAST_LENGTH || !is_visible {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{source} holds no token that could be used"),
            )
            .with_hint(format!(
                "a token has at least {LEAST_LENGTH} printable ASCII characters and no space"
            )));
        }
        Ok(Self::of(text))
    }

    fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// True if a request carries it (RFC 6750).
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let mut carried = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (carried.next(), carried.next()) else { return false };
        let Some((scheme, token)) = value.to_str().ok().and_then(|value| value.split_once(' '))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer") && Self::of(token.trim()).0 == self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_the_very_token_is_admitted() {
        let token = Token::parse("0123456789abcdef", "test").unwrap();
        assert!(token.admits(&headers(&["Bearer 0123456789abcdef"])));
        assert!(token.admits(&headers(&["bearer 0123456789abcdef"])));
        for wrong in [
            &[][..],
            &["Bearer 0123456789abcdeF"],
            &["Bearer "],
            &["0123456789abcdef"],
            &["Basic 0123456789abcdef"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            assert!(!token.admits(&headers(wrong)), "{wrong:?}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn a_token_is_made_once_and_for_one_reader() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("token");
        let made = Token::from_file(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(made.admits(&headers(&[&format!("Bearer {text}")])));
        assert_eq!(Token::from_file(&path).unwrap().0, made.0);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Token::from_file(&path).unwrap_err();
        assert!(error.hint.unwrap().contains("chmod 600"));
        assert!(Token::parse("short", "test").is_err());
        assert!(Token::parse("0123456789 abcdef", "test").is_err());
    }
}
