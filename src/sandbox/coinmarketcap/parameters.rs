//! The query: every parameter is known, given once, not empty and within its range, or refused.

use super::super::answer::Answer;
use super::conversion::Conversion;
use super::envelope::Envelope;

#[derive(Clone, Copy)]
pub struct Parameters<'a> {
    query: &'a [(String, String)],
    envelope: Envelope,
}

impl<'a> Parameters<'a> {
    /// Takes those that are served, and tells those that only the vendor serves from typing errors.
    pub fn new(
        query: &'a [(String, String)],
        envelope: Envelope,
        served: &[&str],
        vendors: &[&str],
    ) -> Result<Parameters<'a>, Answer> {
        for (n, (name, value)) in query.iter().enumerate() {
            let message = if name == "CMC_PRO_API_KEY" {
                continue;
            } else if vendors.contains(&name.as_str()) {
                format!("the sandbox does not serve {name}")
            } else if !served.contains(&name.as_str()) {
                format!("\"{name}\" is not allowed")
            } else if value.is_empty() {
                format!("\"{name}\" is not allowed to be empty")
            } else if query[..n].iter().any(|(other, _)| other == name) {
                format!("\"{name}\" must be a string")
            } else {
                continue;
            };
            return Err(envelope.invalid(&message));
        }
        Ok(Parameters { query, envelope })
    }

    pub fn text(self, name: &str) -> Option<&'a str> {
        let given = self.query.iter().find(|(key, _)| key == name);
        given.map(|(_, value)| value.as_str())
    }

    /// An integer from 1.
    pub fn number(self, name: &str, most: usize) -> Result<Option<usize>, Answer> {
        match self.text(name).map(str::parse::<usize>) {
            None => Ok(None),
            Some(Ok(0)) => Err(self.envelope.invalid(&format!("\"{name}\" must be larger than or equal to 1"))),
            Some(Ok(value)) if value <= most => Ok(Some(value)),
            Some(Ok(_)) => Err(self.envelope.invalid(&format!("\"{name}\" must be less than or equal to {most}"))),
            Some(Err(_)) => Err(self.envelope.invalid(&format!("\"{name}\" must be a number"))),
        }
    }

    /// One of some words, by default the first.
    pub fn choice<T: Copy>(self, name: &str, choices: &[(&str, T)]) -> Result<T, Answer> {
        let Some(given) = self.text(name) else {
            return Ok(choices[0].1);
        };
        let chosen = choices.iter().find(|(word, _)| *word == given);
        chosen.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.envelope.invalid(&format!("\"{name}\" must be one of [{}]", words.join(", ")))
        })
    }

    /// A comma list of words.
    pub fn words(self, name: &str) -> Option<impl Iterator<Item = &'a str>> {
        self.text(name).map(|list| list.split(','))
    }

    pub fn invalid(self, name: &str, value: &str) -> Answer {
        self.envelope.invalid(&format!("Invalid value for \"{name}\": \"{value}\""))
    }

    /// The one currency that the Basic plan converts into.
    pub fn conversion(self) -> Result<Conversion, Answer> {
        let (name, list) = match (self.text("convert"), self.text("convert_id")) {
            (Some(_), Some(_)) => {
                return Err(self.envelope.invalid("\"convert\" and \"convert_id\" can't be used together"));
            }
            (None, Some(ids)) => ("convert_id", ids),
            (symbols, None) => ("convert", symbols.unwrap_or("USD")),
        };
        let find = if name == "convert" { Conversion::find } else { Conversion::with_id };
        let mut last = None;
        for word in list.split(',') {
            last = Some(find(word).ok_or_else(|| self.invalid(name, word))?);
        }
        match last {
            Some(conversion) if !list.contains(',') => Ok(conversion),
            _ => {
                let message = "Your API Key subscription plan is limited to 1 convert option per call.";
                Err(self.envelope.error(403, 1006, message))
            }
        }
    }
}
