//! Addresses of pages. Ids may hold any character.

use std::fmt::Write;

/// Everything but letters, digits and a few harmless signs byte by byte.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// The page of a coin, without a query.
pub fn coin(source: &str, id: &str) -> Address {
    // A browser takes these away from a path, however they are written.
    match id {
        "" | "." | ".." => Address::new(format!("/coins/{}", encode(source))).with("id", id),
        id => Address::new(format!("/coins/{}/{}", encode(source), encode(id))),
    }
}

/// An address being put together.
#[derive(Debug, Clone)]
pub struct Address {
    path: String,
    query: Vec<(&'static str, String)>,
}

impl Address {
    pub fn new(path: impl Into<String>) -> Address {
        Address { path: path.into(), query: Vec::new() }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn query(&self) -> &[(&'static str, String)] {
        &self.query
    }

    /// The parameter with this value, in place of one of the same name.
    pub fn with(&self, name: &'static str, value: impl ToString) -> Address {
        let mut address = self.without(name);
        address.query.push((name, value.to_string()));
        address
    }

    pub fn maybe(&self, name: &'static str, value: Option<impl ToString>) -> Address {
        match value {
            Some(value) => self.with(name, value),
            None => self.without(name),
        }
    }

    pub fn without(&self, name: &str) -> Address {
        let query = self.query.iter().filter(|(held, _)| *held != name).cloned().collect();
        Address { path: self.path.clone(), query }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)?;
        for (at, (name, value)) in self.query.iter().enumerate() {
            write!(f, "{}{name}={}", if at == 0 { '?' } else { '&' }, encode(value))?;
        }
        Ok(())
    }
}

impl maud::Render for Address {
    fn render_to(&self, out: &mut String) {
        self.to_string().render_to(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_is_a_path_segment() {
        assert_eq!(coin("coingecko", "a/b ?#%é").to_string(), "/coins/coingecko/a%2Fb%20%3F%23%25%C3%A9");
        assert_eq!(coin("coingecko", "..").to_string(), "/coins/coingecko?id=..");
        assert_eq!(coin("a b", "").with("currency", "x&y").to_string(), "/coins/a%20b?id=&currency=x%26y");
        let address = Address::new("/").with("a", 1).with("b", 2).with("a", 3);
        assert_eq!(address.to_string(), "/?b=2&a=3");
        assert_eq!(address.without("a").to_string(), "/?b=2");
    }
}
