//! The live view: one line per running job below what has been said, gone without a trace when the run ends.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use loom_contract::id::{JobId, StepIndex};
use loom_contract::visible::visible;

/// Redraws per second.
const RATE: u8 = 10;

/// The view; nothing where stderr is no terminal.
pub(super) struct Live {
    view: Option<MultiProgress>,
    jobs: HashMap<JobId, ProgressBar>,
    style: ProgressStyle,
}

impl Live {
    pub(super) fn new(on: bool) -> Self {
        let view = (on && !console::is_dumb()).then(|| {
            let screen = Screen { terminal: Term::buffered_stderr(), gone: AtomicBool::new(false) };
            MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(Box::new(screen), RATE))
        });
        let style = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg} {elapsed}");
        Self { view, jobs: HashMap::new(), style: style.unwrap_or_else(|_| ProgressStyle::default_spinner()) }
    }

    pub(super) fn started(&mut self, job_id: &JobId) {
        if let Some(view) = &self.view {
            let bar = view.add(ProgressBar::new_spinner());
            bar.set_style(self.style.clone());
            bar.set_prefix(visible(job_id.as_str()).into_owned());
            bar.enable_steady_tick(Duration::from_millis(1000 / u64::from(RATE)));
            self.jobs.insert(job_id.clone(), bar);
        }
    }

    pub(super) fn step(&self, job_id: &JobId, step: StepIndex, command: &str) {
        if let Some(bar) = self.jobs.get(job_id) {
            let first_line = command.lines().next().unwrap_or_default();
            bar.set_message(format!("{step} {}", visible(first_line)));
        }
    }

    pub(super) fn finished(&mut self, job_id: &JobId) {
        if let Some(bar) = self.jobs.remove(job_id) {
            bar.finish_and_clear();
            if let Some(view) = &self.view {
                view.remove(&bar);
            }
        }
    }

    /// Lets `write` write to stderr while the view is out of the way.
    pub(super) fn around(&self, write: impl FnOnce()) {
        match &self.view {
            Some(view) => view.suspend(write),
            None => write(),
        }
    }

    pub(super) fn clear(&mut self) {
        for (_, bar) in self.jobs.drain() {
            bar.finish_and_clear();
        }
        if let Some(view) = &self.view {
            // A terminal that has gone away needs no clearing.
            let _ = view.clear();
        }
    }
}

/// The terminal that the view is drawn on. That it has gone away is no error: `indicatif` would panic over
/// one, and a run does not depend on who looks at it.
#[derive(Debug)]
struct Screen {
    terminal: Term,
    gone: AtomicBool,
}

impl Screen {
    fn draw(&self, draw: impl FnOnce(&Term) -> io::Result<()>) -> io::Result<()> {
        if !self.gone.load(Ordering::Relaxed) && draw(&self.terminal).is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.terminal.size().1
    }

    fn height(&self) -> u16 {
        self.terminal.size().0
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.draw(|terminal| terminal.move_cursor_up(lines))
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.draw(|terminal| terminal.move_cursor_down(lines))
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.draw(|terminal| terminal.move_cursor_right(columns))
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.draw(|terminal| terminal.move_cursor_left(columns))
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.draw(|terminal| terminal.write_line(line))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(|terminal| terminal.write_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(Term::clear_line)
    }

    fn flush(&self) -> io::Result<()> {
        self.draw(Term::flush)
    }
}
