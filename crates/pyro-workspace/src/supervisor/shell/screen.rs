//! The screen of a shell, as a terminal emulator on the host has it.
//!
//! What it is fed comes from the guest and means harm. The emulator keeps no scrollback, and its
//! parser, built without `std`, keeps a bounded part of any sequence; should it panic all the same,
//! the screen starts anew.

use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyro_contract::shell::{ScreenState, TerminalSize};

// The buffer of control strings is part of the parser only where it is a bounded one.
const _: () = assert!(size_of::<vt100::Parser>() > 1024);

/// After so many panics the emulator is not trusted any more, and the screen stays blank.
const FAULTS: u8 = 8;

/// What one answer of the terminal, and a title, may have.
const LONGEST_ANSWER: usize = 256;

/// See the module.
pub(super) struct Screen {
    emulator: vt100::Parser<Requests>,
    size: TerminalSize,
    faults: u8,
}

/// What the program asked of the terminal besides showing something.
#[derive(Default)]
struct Requests {
    title: String,
    answers: Vec<u8>,
}

impl vt100::Callbacks for Requests {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        let title = String::from_utf8_lossy(title);
        self.title = title.chars().filter(|c| !c.is_control()).take(LONGEST_ANSWER).collect();
    }

    /// Questions that programs wait for an answer to: who are you, are you well, where is the
    /// cursor ("DA1", "DA2", "DSR" in xterm's control sequences).
    fn unhandled_csi(
        &mut self,
        screen: &mut vt100::Screen,
        first: Option<u8>,
        _: Option<u8>,
        parameters: &[&[u16]],
        action: char,
    ) {
        let answer = match (first, parameters, action) {
            (None, [[6]], 'n') => {
                let (row, col) = screen.cursor_position();
                format!("\x1b[{};{}R", u32::from(row) + 1, u32::from(col) + 1)
            }
            (None, [[5]], 'n') => "\x1b[0n".to_owned(),
            (None, [] | [[0]], 'c') => "\x1b[?62;22c".to_owned(),
            (Some(b'>'), [] | [[0]], 'c') => "\x1b[>0;10;1c".to_owned(),
            _ => return,
        };
        if self.answers.len() + answer.len() <= LONGEST_ANSWER {
            self.answers.extend_from_slice(answer.as_bytes());
        }
    }
}

fn emulator(size: TerminalSize) -> vt100::Parser<Requests> {
    let TerminalSize { cols, rows } = size.bounded();
    let count = |count| NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN);
    vt100::Parser::new_with_callbacks(count(rows), count(cols), 0, Requests::default())
}

impl Screen {
    pub(super) fn new(size: TerminalSize) -> Self {
        let size = size.bounded();
        Self { emulator: emulator(size), size, faults: 0 }
    }

    pub(super) fn size(&self) -> TerminalSize {
        self.size
    }

    /// Shows what the program wrote. Takes time in proportion to the bytes times the size of the
    /// screen, so give it little at once.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        self.guarded(|emulator| emulator.process(bytes));
    }

    pub(super) fn resize(&mut self, size: TerminalSize) {
        self.size = size.bounded();
        let TerminalSize { cols, rows } = self.size;
        let (Some(rows), Some(cols)) = (NonZeroU16::new(rows), NonZeroU16::new(cols)) else {
            return;
        };
        self.guarded(|emulator| emulator.set_size(rows, cols));
    }

    /// What a terminal would have typed by itself since this was last asked.
    pub(super) fn take_answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.emulator.callbacks_mut().answers)
    }

    /// True if arrow keys are to be sent in their other form.
    pub(super) fn application_cursor(&self) -> bool {
        self.emulator.screen().application_cursor()
    }

    /// The text as a person sees it: no blanks at the ends of lines, no empty lines at the end.
    pub(super) fn text(&mut self) -> String {
        let text = self.guarded(|emulator| {
            let screen = emulator.screen();
            let rows = screen.rows(0, screen.size().1.get());
            rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
        });
        text.unwrap_or_default().trim_end_matches('\n').to_owned()
    }

    pub(super) fn state(&self) -> ScreenState {
        let screen = self.emulator.screen();
        let (row, col) = screen.cursor_position();
        ScreenState {
            cols: self.size.cols,
            rows: self.size.rows,
            cursor_row: row.saturating_add(1).min(self.size.rows),
            // Behind the last character of a full line it is shown on it.
            cursor_col: col.saturating_add(1).min(self.size.cols),
            cursor_hidden: screen.hide_cursor(),
            full_screen: screen.alternate_screen(),
            title: self.emulator.callbacks().title.clone(),
        }
    }

    /// What makes another terminal show the same.
    pub(super) fn redraw(&mut self) -> Vec<u8> {
        let drawn = self.guarded(|emulator| {
            let screen = emulator.screen();
            let full = if screen.alternate_screen() { "\x1b[?1049h" } else { "" };
            let title = &emulator.callbacks().title;
            let title =
                if title.is_empty() { String::new() } else { format!("\x1b]2;{title}\x1b\\") };
            format!("\x1b[0m\x1b[r{full}{}{title}", screen.state_formatted())
        });
        drawn.unwrap_or_default().into_bytes()
    }

    fn guarded<T>(&mut self, work: impl FnOnce(&mut vt100::Parser<Requests>) -> T) -> Option<T> {
        if self.faults >= FAULTS {
            return None;
        }
        // Whatever state a panic leaves it in is thrown away.
        match catch_unwind(AssertUnwindSafe(|| work(&mut self.emulator))) {
            Ok(done) => Some(done),
            Err(_) => {
                self.faults += 1;
                self.emulator = emulator(self.size);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn screen(cols: u16, rows: u16) -> Screen {
        Screen::new(TerminalSize { cols, rows })
    }

    #[test]
    fn text_is_what_a_person_sees() {
        let mut screen = screen(20, 5);
        screen.show(b"one\r\ntwo   \r\n\x1b[31mthree\x1b[0m\x1b[2;1HTWO");
        assert_eq!(screen.text(), "one\nTWO\nthree");
        let state = screen.state();
        assert_eq!((state.cursor_row, state.cursor_col), (2, 4));
        screen.show(b"\x1b[?1049h\x1b[?25l\x1b]2;vim\x07editor");
        let state = screen.state();
        assert!(state.full_screen && state.cursor_hidden);
        assert_eq!(state.title, "vim");
        screen.show(b"\x1b[?1049l");
        assert_eq!(screen.text(), "one\nTWO\nthree");
    }

    #[test]
    fn a_program_that_asks_is_answered() {
        let mut screen = screen(80, 24);
        screen.show(b"\x1b[3;7H\x1b[6n");
        assert_eq!(screen.take_answers(), b"\x1b[3;7R");
        screen.show(b"\x1b[c\x1b[>c\x1b[5n");
        assert_eq!(screen.take_answers(), b"\x1b[?62;22c\x1b[>0;10;1c\x1b[0n");
        screen.show(&b"\x1b[c".repeat(10_000));
        assert!(screen.take_answers().len() <= LONGEST_ANSWER);
        assert_eq!(screen.take_answers(), b"");
    }

    #[test]
    fn a_redraw_shows_the_same() {
        let mut first = screen(30, 8);
        first.show(
            "\x1b[?1049h\x1b[2J\x1b[3;4H\x1b[1;32mh\u{e9}llo \u{4f60}\x1b[0m\x1b[?1h".as_bytes(),
        );
        let mut second = screen(30, 8);
        second.show(&first.redraw());
        assert_eq!(second.text(), first.text());
        assert_eq!(second.state(), first.state());
        assert!(second.application_cursor());
    }

    #[test]
    fn control_strings_without_end_are_not_kept() {
        let mut screen = screen(80, 24);
        screen.show(b"\x1b]2;");
        for _ in 0..1000 {
            screen.show(&[b'x'; 10_000]);
        }
        screen.show(b"\x07ok");
        assert!(screen.state().title.len() <= LONGEST_ANSWER);
        assert_eq!(screen.text(), "ok");
    }

    /// Output that a hostile program might write: sequences with odd numbers, cut and mixed.
    fn output() -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![Just(0_u32), Just(1), 0..600_u32, Just(65_535), Just(99_999_999)];
        let sequence = ("[?>! ]{0,2}", proptest::collection::vec(number, 0..4), "[@-~]").prop_map(
            |(prefix, numbers, last)| {
                let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                format!("\x1b[{prefix}{}{last}", numbers.join(";")).into_bytes()
            },
        );
        let mode = prop_oneof![Just(6_u32), Just(7), Just(25), Just(47), Just(1049), Just(2004)]
            .prop_flat_map(|mode| {
                prop_oneof![
                    Just(format!("\x1b[?{mode}h").into_bytes()),
                    Just(format!("\x1b[?{mode}l").into_bytes()),
                ]
            });
        let piece = prop_oneof![
            4 => sequence,
            2 => mode,
            2 => ".{0,40}".prop_map(String::into_bytes),
            1 => "[a-z\u{4e00}-\u{4e20}\u{300}-\u{30f}\u{fe0f}\u{1f525}\u{200d}]{0,60}"
                .prop_map(String::into_bytes),
            2 => proptest::collection::vec(any::<u8>(), 0..40),
            1 => Just(b"\x1b7\x1b8\x1bM\x1bD\x1bc\r\n\x08\t\x0b".to_vec()),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    fn size() -> impl Strategy<Value = TerminalSize> {
        (0..40_u16, 0..20_u16).prop_map(|(cols, rows)| TerminalSize { cols, rows })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn nothing_that_is_shown_breaks_the_emulator(
            steps in proptest::collection::vec((size(), output()), 1..6),
        ) {
            let mut screen = screen(80, 24);
            for (size, output) in steps {
                screen.resize(size);
                screen.show(&output);
                prop_assert_eq!(screen.size(), size.bounded());
                let state = screen.state();
                prop_assert!(state.cursor_row <= state.rows && state.cursor_col <= state.cols);
                prop_assert!(screen.text().lines().count() <= usize::from(state.rows));
                let _ = screen.redraw();
                let _ = screen.take_answers();
            }
            prop_assert_eq!(screen.faults, 0);
        }

        #[test]
        fn the_same_text_in_other_pieces_is_the_same_screen(
            output in output(),
            cut in any::<prop::sample::Index>(),
        ) {
            // What becomes of malformed characters is the emulator's affair.
            let output = String::from_utf8_lossy(&output).into_owned().into_bytes();
            let (mut whole, mut pieces) = (screen(40, 10), screen(40, 10));
            whole.show(&output);
            let cut = if output.is_empty() { 0 } else { cut.index(output.len()) };
            pieces.show(&output[..cut]);
            pieces.show(&output[cut..]);
            prop_assert_eq!(pieces.text(), whole.text());
            prop_assert_eq!(pieces.state(), whole.state());
        }
    }
}
