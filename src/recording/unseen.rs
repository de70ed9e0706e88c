//! Output becomes what it is about to do to the screen, and with that what nobody has looked at yet and would be gone: overwritten, cleared,
//! or scrolled away. It knows of a screen what `vt100` does, and takes whatever it does not know for something that changes all of it.

use super::playback::Size;
use vt100::Screen;
use vte::{Params, Perform};

/// What a terminal is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// One that takes nothing away: the cursor moves, colours change.
    Nothing,
    Print(char),
    Newline,
    /// Erases or shifts within the cursor's line, from the cursor on.
    LineForward,
    /// Erases the cursor's line, all of it or up to the cursor.
    Line,
    /// Erases from the cursor to the screen's end.
    ScreenForward,
    /// Sets the lines that scroll (DECSTBM), counted from 1; 0 stands for the first and the last one.
    Region(u16, u16),
    /// Begins the other screen as an empty one.
    Alternate,
    /// Begins anew (RIS).
    Reset,
    /// Anything else: lines move, or all is erased.
    Rearrange,
}

/// What the bytes that were read make a terminal do.
#[derive(Debug, Default)]
struct Acts(Vec<Act>);

impl Perform for Acts {
    fn print(&mut self, c: char) {
        self.0.push(Act::Print(c));
    }

    fn execute(&mut self, byte: u8) {
        self.0.push(match byte {
            b'\n' | 0x0b | 0x0c => Act::Newline,
            _ => Act::Nothing,
        });
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, byte: u8) {
        self.0.push(match (intermediates, byte) {
            // Character sets, the cursor, the keypad, the end of a string.
            ([b'(' | b')' | b'*' | b'+'], _) | ([], b'7' | b'8' | b'=' | b'>' | b'\\') => Act::Nothing,
            ([], b'c') => Act::Reset,
            _ => Act::Rearrange,
        });
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _ignore: bool, action: char) {
        let numbers = || params.iter().map(|param| param.first().copied().unwrap_or_default());
        let first = numbers().next().unwrap_or_default();
        self.0.push(match (intermediates, action) {
            (_, 'm' | 'n' | 'c' | 'q') | ([], 'A'..='H' | '`' | 'd' | 'f' | 'g' | 's' | 't' | 'u') => Act::Nothing,
            ([] | [b'?'], 'K') if first == 0 => Act::LineForward,
            ([] | [b'?'], 'K') => Act::Line,
            ([] | [b'?'], 'J') if first == 0 => Act::ScreenForward,
            ([], '@' | 'P' | 'X') => Act::LineForward,
            ([], 'r') => Act::Region(first, numbers().nth(1).unwrap_or_default()),
            ([b'?'], 'h') if numbers().any(|mode| mode == 1049) => Act::Alternate,
            ([b'?'], 'h' | 'l') if numbers().any(|mode| matches!(mode, 47 | 1047 | 1049)) => Act::Rearrange,
            (_, 'h' | 'l') => Act::Nothing,
            _ => Act::Rearrange,
        });
    }
}

/// How much would be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Lines that scroll away, and not the one on which the cursor stands.
    Scrolled,
    Any,
}

/// The lines that scroll, counted from 0.
#[derive(Clone, Copy, Debug)]
struct Region {
    top: u16,
    bottom: u16,
}

impl Region {
    fn whole(rows: u16) -> Self {
        Self {
            top: 0,
            bottom: rows - 1,
        }
    }

    /// As `vt100` takes it.
    fn of(top: u16, bottom: u16, rows: u16) -> Self {
        let top = top.max(1) - 1;
        let bottom = if bottom == 0 { rows } else { bottom.min(rows) } - 1;
        if top < bottom {
            Self { top, bottom }
        } else {
            Self::whole(rows)
        }
    }

    fn resized(self, before: u16, rows: u16) -> Self {
        let bottom = if self.bottom == before - 1 {
            rows
        } else {
            (self.bottom + 1).min(rows)
        } - 1;
        let top = if bottom < self.top { 0 } else { self.top };
        Self { top, bottom }
    }
}

/// The cells that hold something since they were last looked at.
pub struct Unseen {
    ahead: vte::Parser,
    acts: Acts,
    rows: Vec<Vec<bool>>,
    any: bool,
    /// Of the usual screen and of the other one.
    regions: [Region; 2],
}

impl Unseen {
    pub fn new(size: Size) -> Self {
        let mut unseen = Self {
            ahead: vte::Parser::new(),
            acts: Acts::default(),
            rows: vec![],
            any: false,
            regions: [Region::whole(size.rows); 2],
        };
        unseen.resize(size);
        unseen
    }

    /// Reads the next byte, before the screen does, and says what will be gone when it has.
    pub fn before(&mut self, byte: u8, screen: &Screen) -> Option<Loss> {
        self.acts.0.clear();
        self.ahead.advance(&mut self.acts, &[byte]);
        if !self.any {
            return None;
        }
        match self.acts.0[..] {
            [] => None,
            [act] => self.loss(act, screen),
            // An unfinished character, and what ended it.
            _ => Some(Loss::Any),
        }
    }

    fn loss(&self, act: Act, screen: &Screen) -> Option<Loss> {
        let (row, column) = screen.cursor_position();
        let (rows, columns) = screen.size();
        let region = self.region(screen);
        let scrolls = || {
            let is_lost = row == region.bottom && self.has_any(screen, region.top, 0);
            is_lost.then_some(if row == region.top { Loss::Any } else { Loss::Scrolled })
        };
        let is_lost = match act {
            Act::Nothing | Act::Region(..) => false,
            Act::Newline => return scrolls(),
            Act::Print(c) => {
                // One that has no room in this line takes that of the next one.
                let may_wrap = column + 1 >= columns;
                let next = (row + 1).min(rows - 1);
                let overwrites = self.overwrites(screen, row, column, c)
                    || (may_wrap && row != region.bottom && self.overwrites(screen, next, 0, c));
                if may_wrap && !overwrites {
                    return scrolls();
                }
                overwrites
            }
            Act::LineForward => self.has_any(screen, row, column),
            Act::Line => self.has_any(screen, row, 0),
            Act::ScreenForward => {
                self.has_any(screen, row, column) || (row + 1..rows).any(|row| self.has_any(screen, row, 0))
            }
            Act::Alternate | Act::Reset | Act::Rearrange => true,
        };
        is_lost.then_some(Loss::Any)
    }

    fn region(&self, screen: &Screen) -> Region {
        self.regions[usize::from(screen.alternate_screen())]
    }

    /// Whether something of a line is unseen, from a column on.
    fn has_any(&self, screen: &Screen, row: u16, from: u16) -> bool {
        let marks = &self.rows[usize::from(row)];
        // Half of a wide character is all of it.
        let is_half = screen.cell(row, from).is_some_and(vt100::Cell::is_wide_continuation);
        let from = from - u16::from(is_half);
        (from..screen.size().1).any(|column| marks[usize::from(column)] && shows(screen, row, column))
    }

    fn overwrites(&self, screen: &Screen, row: u16, column: u16, c: char) -> bool {
        let is_same = |column| {
            let cell = screen.cell(row, column);
            cell.is_some_and(|cell| cell.contents().chars().eq([c]))
        };
        let differs = |column| shows(screen, row, column) && !is_same(column);
        // A wide one takes two cells. What was printed behind the cursor, from left to right, is what overwrites it.
        let changes = differs(column) || (!c.is_ascii() && !is_same(column) && differs(column + 1));
        changes && self.has_any(screen, row, column)
    }

    /// Notes what the byte that was read has done.
    pub fn after(&mut self, before: (u16, u16), screen: &Screen) {
        let (row, column) = screen.cursor_position();
        let (_, columns) = screen.size();
        for index in 0..self.acts.0.len() {
            match self.acts.0[index] {
                Act::Newline if before.0 == self.region(screen).bottom => self.scroll(screen),
                Act::Print(_) => {
                    let has_wrapped = column < before.1;
                    if has_wrapped && before.0 == self.region(screen).bottom {
                        self.scroll(screen);
                    }
                    let marks = &mut self.rows[usize::from(row)];
                    // A wide one has two.
                    for cell in column.saturating_sub(2)..column.min(columns) {
                        let is_printed = cell + 1 == column || screen.cell(row, cell).is_some_and(vt100::Cell::is_wide);
                        marks[usize::from(cell)] |= is_printed;
                        self.any |= is_printed;
                    }
                }
                Act::Region(top, bottom) => {
                    let region = Region::of(top, bottom, screen.size().0);
                    self.regions[usize::from(screen.alternate_screen())] = region;
                }
                Act::Alternate => self.regions[1] = Region::whole(screen.size().0),
                Act::Reset => self.regions = [Region::whole(screen.size().0); 2],
                Act::Newline | Act::Nothing | Act::LineForward | Act::Line | Act::ScreenForward | Act::Rearrange => {}
            }
        }
    }

    fn scroll(&mut self, screen: &Screen) {
        let Region { top, bottom } = self.region(screen);
        let mut row = self.rows.remove(usize::from(top));
        row.fill(false);
        self.rows.insert(usize::from(bottom), row);
    }

    /// All was looked at, or all but one line.
    pub fn seen(&mut self, but: Option<u16>) {
        if !self.any {
            return;
        }
        for (index, row) in self.rows.iter_mut().enumerate() {
            if but != u16::try_from(index).ok() {
                row.fill(false);
            }
        }
        self.any = but.is_some_and(|row| self.rows[usize::from(row)].contains(&true));
    }

    /// Whether there is anything that was not looked at.
    pub fn is_any(&self) -> bool {
        self.any
    }

    /// All must have been looked at.
    pub fn resize(&mut self, size: Size) {
        let before = u16::try_from(self.rows.len()).unwrap_or(u16::MAX);
        if before > 0 {
            self.regions = self.regions.map(|region| region.resized(before, size.rows));
        }
        self.rows = vec![vec![false; usize::from(size.columns)]; usize::from(size.rows)];
        self.any = false;
    }
}

/// Whether there is something in a cell that a reader would miss.
fn shows(screen: &Screen, row: u16, column: u16) -> bool {
    let cell = screen.cell(row, column);
    cell.is_some_and(|cell| cell.is_wide_continuation() || !matches!(cell.contents(), "" | " "))
}
