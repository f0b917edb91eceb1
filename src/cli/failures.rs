//! What was asked for and did not come, in words.

/// Failures named with their reason; the others are counted.
const NAMED: usize = 10;

/// What was asked for and did not come.
#[derive(Default)]
pub struct Failures {
    /// What failed, and why; the same reason once.
    reasons: Vec<(Vec<String>, String)>,
    /// The first error.
    pub cause: Option<anyhow::Error>,
}

impl Failures {
    pub fn add(&mut self, what: String, why: String) {
        match self.reasons.iter_mut().find(|(_, known)| *known == why) {
            Some((many, _)) => many.push(what),
            None => self.reasons.push((vec![what], why)),
        }
    }

    /// A sentence for each reason.
    pub fn sentences(&self) -> impl Iterator<Item = String> + '_ {
        self.reasons.iter().map(|(what, why)| {
            let (named, more) = what.split_at(what.len().min(NAMED));
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            format!("{}{more} {why}", named.join(", "))
        })
    }
}
