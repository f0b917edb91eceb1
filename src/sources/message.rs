//! What a vendor says about an error, in one line of ours.

/// Longest part of a foreign message that is repeated.
const MAX_CHARS: usize = 300;

/// The vendor's message, or where it has none the text of whatever body there is.
pub fn line(message: Option<String>, body: &[u8]) -> String {
    let message = message.filter(|message| !message.trim().is_empty()).unwrap_or_else(|| plain(body));
    let message = message.replace(char::is_control, " ");
    message.trim().trim_end_matches('.').chars().take(MAX_CHARS).collect()
}

/// A page of HTML or plain text in one line.
fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut out = String::new();
    let mut in_tag = false;
    for c in text.chars() {
        match c {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                out.push(' ');
            }
            c if !in_tag => out.push(if c.is_control() { ' ' } else { c }),
            _ => {}
        }
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    if words.is_empty() { "no reason given".to_owned() } else { words.join(" ") }
}
