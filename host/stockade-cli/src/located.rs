//! Errors of tasks with the lines of source that the guest was at, where it says which.

use stockade::{Frame, Pool, SourcePlace, TaskError};

use crate::error::Error;

/// The most lines that are shown for one frame.
const PLACES_MAX: usize = 8;

/// The error of a task of the only module of `pool`. Blocks while the module's debug information is
/// read, if it has any.
pub(crate) fn error(error: &TaskError, pool: Option<&Pool>) -> Error {
    let described = Error::from(error);
    let (Some(pool), backtrace) = (pool, error.backtrace()) else { return described };
    let Some((module, description)) = pool.modules().next() else { return described };
    if backtrace.is_empty() || !description.has_debug_info {
        return described;
    }
    match pool.locate(module, backtrace) {
        Ok(places) => {
            let lines =
                backtrace.iter().zip(&places).flat_map(|(frame, places)| lines(frame, places));
            described.backtrace(lines.collect())
        }
        // The functions' names are there all the same.
        Err(error) => described.because(error.to_string()),
    }
}

/// A line for the frame, and one before it for each function that was inlined into it there.
fn lines(frame: &Frame, places: &[SourcePlace]) -> Vec<String> {
    let Some((own, inlined)) = places.split_last() else { return vec![frame.function.clone()] };
    let inlined = inlined.iter().take(PLACES_MAX - 1).map(|place| {
        let function = place.function.as_deref().unwrap_or("<inlined function>");
        format!("{function}{}", at(place))
    });
    // Its own name as every other backtrace has it.
    inlined.chain([format!("{}{}", frame.function, at(own))]).collect()
}

/// ` at FILE:LINE:COLUMN`, as far as it is known.
fn at(place: &SourcePlace) -> String {
    let Some(file) = &place.file else { return String::new() };
    let numbers = [place.line, place.line.and(place.column)];
    let numbers: String = numbers.iter().flatten().map(|number| format!(":{number}")).collect();
    format!(" at {file}{numbers}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(function: &str, file: &str, line: u32, column: u32) -> SourcePlace {
        let counted = |number| Some(number).filter(|number| *number > 0);
        SourcePlace {
            function: Some(function.into()),
            file: Some(file.to_owned()).filter(|file| !file.is_empty()),
            line: counted(line),
            column: counted(column),
        }
    }

    fn frame() -> Frame {
        Frame { function: "outer".into(), index: 0, offset: None }
    }

    #[test]
    fn a_frame_is_shown_with_what_is_known_of_its_source() {
        assert_eq!(lines(&frame(), &[]), ["outer"]);
        assert_eq!(lines(&frame(), &[place("f", "", 3, 4)]), ["outer"]);
        assert_eq!(lines(&frame(), &[place("f", "a.c", 0, 4)]), ["outer at a.c"]);
        assert_eq!(lines(&frame(), &[place("f", "a.c", 3, 0)]), ["outer at a.c:3"]);
        let inlined = [place("inner", "b.c", 1, 2), place("other name", "a.c", 3, 4)];
        assert_eq!(lines(&frame(), &inlined), ["inner at b.c:1:2", "outer at a.c:3:4"]);
    }

    #[test]
    fn a_module_that_claims_endless_inlining_gets_a_few_lines() {
        let places = vec![place("f", "a.c", 1, 1); 1000];
        assert_eq!(lines(&frame(), &places).len(), PLACES_MAX);
    }
}
