//! What the tour shows on a terminal, and in a log file.

use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

/// How often a live line is printed where it cannot be drawn over.
const LIVE_EVERY: Duration = Duration::from_secs(3);

/// The output.
pub struct Screen {
    terminal: bool,
    // A live line is on the screen and wants to be drawn over.
    live: bool,
    live_at: Option<Instant>,
}

impl Default for Screen {
    fn default() -> Self {
        Self { terminal: stdout().is_terminal(), live: false, live_at: None }
    }
}

impl Screen {
    /// The title.
    pub fn title(&mut self, text: &str) {
        self.print(&format!("\n{}\n", self.bold(text)));
    }

    /// A step begins.
    pub fn step(&mut self, text: &str) {
        self.print(&format!("\n{}", self.bold(&format!("== {text}"))));
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        self.print(&format!("   {text}"));
    }

    /// A result that stays, good or bad.
    pub fn result(&mut self, good: bool, text: &str) {
        let (mark, colour) = if good { ("ok", "32") } else { ("BAD", "31") };
        let mark =
            if self.terminal { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_owned() };
        self.print(&format!("   {mark}  {text}"));
    }

    /// A line that the next one replaces.
    pub fn live(&mut self, text: &str) {
        if self.terminal {
            self.write(&format!("\r\x1b[K   .. {text}"));
            self.live = true;
        } else if self.live_at.is_none_or(|at| at.elapsed() >= LIVE_EVERY) {
            self.live_at = Some(Instant::now());
            self.write(&format!("   .. {text}\n"));
        }
    }

    fn bold(&self, text: &str) -> String {
        if self.terminal { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn print(&mut self, text: &str) {
        let over = if std::mem::take(&mut self.live) { "\r\x1b[K" } else { "" };
        self.live_at = None;
        self.write(&format!("{over}{text}\n"));
    }

    fn write(&self, text: &str) {
        let mut out = stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

/// `61.2 MB`.
pub fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 {
        return format!("{:.1} kB", bytes as f64 / 1e3);
    }
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(megabytes(61_234_567), "61.2 MB");
    }
}
