//! How to reach a vendor: its own settings, read in one way for all of them.

use secrecy::SecretString;

/// A setting's value by its name; `None` where it is not set.
pub type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A setting that can't be used. Values are not repeated: they may be secrets.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not usable: {why}")]
pub struct SettingError {
    pub name: &'static str,
    pub why: String,
}

/// What the settings say once they are resolved.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Without a slash at the end.
    pub base_url: String,
    /// `base_url` is the vendor's own, behind which is no sandbox.
    pub is_vendors: bool,
    /// Where quotes come from as they happen; empty where the vendor has no such feed.
    pub feed_url: String,
    /// The setting that changes `base_url`.
    pub url_setting: &'static str,
    /// The header's name and the key.
    pub key: Option<(&'static str, SecretString)>,
    /// Of which kind the key is, for people: `demo key`.
    pub kind: &'static str,
    /// The plan's calls a minute; 0 = no limit.
    pub calls_per_minute: u32,
    /// What the plan allows a month, in the vendor's own credits; 0 = no limit.
    pub credits_per_month: u64,
}

/// A setting that is the address of an API.
pub fn api_url(variables: &Variables<'_>, name: &'static str) -> Result<Option<String>, SettingError> {
    address(variables, name, ["http", "https"])
}

/// A setting that is the address of a WebSocket.
pub fn feed_url(variables: &Variables<'_>, name: &'static str) -> Result<Option<String>, SettingError> {
    address(variables, name, ["ws", "wss"])
}

fn address(variables: &Variables<'_>, name: &'static str, schemes: [&str; 2]) -> Result<Option<String>, SettingError> {
    let Some(text) = variables(name) else { return Ok(None) };
    let invalid = |why: String| SettingError { name, why };
    let [plain, safe] = schemes;
    let url = url::Url::parse(&text).map_err(|err| invalid(format!("{err}; write {safe}://host/path")))?;
    if !schemes.contains(&url.scheme()) || url.host().is_none() {
        return Err(invalid(format!("it must be {plain}://… or {safe}://…")));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(invalid("it must hold no user, password or query; keys have settings of their own".to_owned()));
    }
    Ok(Some(text.trim_end_matches('/').to_owned()))
}

/// A setting that is a key.
pub fn key(variables: &Variables<'_>, name: &'static str) -> Result<Option<SecretString>, SettingError> {
    let Some(key) = variables(name) else { return Ok(None) };
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let why = "a key holds only printable ASCII characters without spaces".to_owned();
        return Err(SettingError { name, why });
    }
    Ok(Some(SecretString::from(key)))
}
