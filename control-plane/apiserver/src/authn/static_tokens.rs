//! `--token-auth-file`: one token a line, `token,user,uid,"group1,group2"`, as kube-apiserver reads it.

use std::collections::HashMap;
use std::path::Path;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use skiff_api::status::ApiResult;

use super::{Authenticator, AuthnError, Credentials, UserInfo, bearer};

/// Tokens of the file, kept as digests: looking one up takes the same time however much of it is right.
pub struct StaticTokens(HashMap<[u8; 32], UserInfo>);

impl StaticTokens {
    pub fn load(path: &Path) -> Result<Self, AuthnError> {
        let text = std::fs::read_to_string(path).map_err(|source| AuthnError::TokenFile {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|(line, why)| AuthnError::TokenLine {
            path: path.to_owned(),
            line,
            why,
        })
    }

    /// The error is a line number (from 1) and a reason.
    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut tokens = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let cells = csv_cells(line).map_err(|why| (index + 1, why))?;
            let cell = |i: usize| cells.get(i).map(|c| c.trim().to_owned()).unwrap_or_default();
            if cells.len() < 3 {
                return Err((index + 1, "a token, a user and a uid are needed"));
            }
            if cell(0).is_empty() {
                return Err((index + 1, "the token is empty"));
            }
            let groups = cell(3)
                .split(',')
                .map(str::trim)
                .filter(|g| !g.is_empty())
                .map(str::to_owned)
                .collect();
            let user = UserInfo {
                name: cell(1),
                uid: cell(2),
                groups,
                ..UserInfo::default()
            }
            .authenticated();
            tokens.insert(Sha256::digest(cell(0)).into(), user);
        }
        Ok(Self(tokens))
    }
}

/// The cells of one CSV line; quotes inside a quoted cell are doubled (RFC 4180).
fn csv_cells(line: &str) -> Result<Vec<String>, &'static str> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.trim().is_empty() => {
                cell.clear();
                quoted = true;
            }
            ',' if !quoted => cells.push(std::mem::take(&mut cell)),
            other => cell.push(other),
        }
    }
    if quoted {
        return Err("a quote is not closed");
    }
    cells.push(cell);
    Ok(cells)
}

#[async_trait]
impl Authenticator for StaticTokens {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> ApiResult<Option<UserInfo>> {
        let Some(token) = bearer::token(credentials) else {
            return Ok(None);
        };
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        Ok(self.0.get(&digest).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tokens_are_found_with_their_groups_and_by_basic_passwords() {
        let tokens = StaticTokens::parse("s3cret,ann,7,\"dev,ops\"\n# note\n\nother , bob,8\n").unwrap();
        let ask = async |header: &str| {
            let credentials = Credentials {
                authorization: Some(header),
                client_certificates: &[],
            };
            tokens.authenticate(&credentials).await.unwrap()
        };
        let ann = ask("Bearer s3cret").await.unwrap();
        assert_eq!((ann.name.as_str(), ann.uid.as_str()), ("ann", "7"));
        assert_eq!(ann.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(ask("bearer  other").await.unwrap().groups, ["system:authenticated"]);
        // x:s3cret
        assert_eq!(ask("Basic eDpzM2NyZXQ=").await.unwrap().name, "ann");
        for wrong in [
            "Bearer S3cret",
            "Bearer",
            "Bearer ",
            "Digest s3cret",
            "s3cret",
            "Basic s3cret",
            "Basic ????",
        ] {
            assert_eq!(ask(wrong).await, None, "{wrong}");
        }
    }

    #[test]
    fn mistakes_name_the_line_and_nothing_else() {
        let mistake = |text: &str| StaticTokens::parse(text).err();
        assert_eq!(
            mistake("a,b,c\ntoken,user\n"),
            Some((2, "a token, a user and a uid are needed"))
        );
        assert_eq!(mistake(",user,uid"), Some((1, "the token is empty")));
        assert_eq!(mistake("t,u,1,\"open"), Some((1, "a quote is not closed")));
    }
}
