//! Charts as SVG: lines over two axes, linear or logarithmic, and bars.
//!
//! Colours are classes that the page's style gives, so one drawing serves light and dark.

use std::fmt::Write;

/// Size of a chart, and what its axes need around the plot.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 42.0;
/// Of one bar.
const BAR_HEIGHT: f64 = 22.0;
const BAR_LEFT: f64 = 150.0;
const BAR_RIGHT: f64 = 90.0;
/// Where the smallest value of a logarithmic axis is not above this, it is shown there.
const LOG_LEAST: f64 = 1e-3;

/// How a value becomes a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
    /// Logarithmic, of 100 / (100 - percentile); its ticks are percentiles.
    Percentile,
}

/// One axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    name: &'static str,
    scale: Scale,
}

impl Axis {
    /// From 0 (or the first value of x) on, evenly.
    pub(super) const fn linear(name: &'static str) -> Self {
        Self { name, scale: Scale::Linear }
    }

    /// By powers of ten.
    pub(super) const fn log(name: &'static str) -> Self {
        Self { name, scale: Scale::Log }
    }

    /// By nines: of values that are 100 / (100 - percentile).
    pub(super) const fn percentile(name: &'static str) -> Self {
        Self { name, scale: Scale::Percentile }
    }
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

impl Line {
    /// Through those points, in their order.
    pub(super) const fn new(name: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { name, points }
    }
}

/// Lines over two axes.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What it is, for those who cannot see it as well.
    pub(super) title: &'static str,
    /// Below.
    pub(super) x: Axis,
    /// To the left.
    pub(super) y: Axis,
    /// At most three.
    pub(super) lines: Vec<Line>,
}

/// An axis with its bounds and where it lies.
struct Placed {
    axis: Axis,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Placed {
    fn new(axis: Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            // There is nothing to show.
            (low, high) = (1.0, 1.0);
        }
        let (low, high) = match axis.scale {
            Scale::Linear => (0.0, if high > 0.0 { high } else { 1.0 }),
            Scale::Log => {
                let low = 10_f64.powf(low.max(LOG_LEAST).log10().floor());
                (low, 10_f64.powf(high.max(low * 10.0).log10().ceil()))
            }
            Scale::Percentile => (1.0, high.max(10.0)),
        };
        Self { axis, low, high, from, to }
    }

    /// The same with room up to the next tick, so that no line leaves what can be read off.
    fn up_to_a_tick(mut self) -> Self {
        if self.axis.scale == Scale::Linear {
            let step = nice_step(self.high - self.low);
            self.high = self.low + ((self.high - self.low) / step).ceil() * step;
        }
        self
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.axis.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log | Scale::Percentile => {
                let value = value.max(self.low);
                (value / self.low).log10() / (self.high / self.low).log10()
            }
        };
        self.from + share * (self.to - self.from)
    }

    /// Where lines across the chart help, and what is written there.
    fn ticks(&self) -> Vec<(f64, String)> {
        match self.axis.scale {
            Scale::Linear => {
                let step = nice_step(self.high - self.low);
                let count = ((self.high - self.low) / step * 1.000_001).floor() as u32;
                let at = |n: u32| self.low + f64::from(n) * step;
                (0..=count).map(|n| (at(n), said(at(n)))).collect()
            }
            Scale::Log | Scale::Percentile => {
                let decades = (self.high / self.low).log10().round() as i32;
                let at = |n: i32| self.low * 10_f64.powi(n);
                let name = |value: f64| match self.axis.scale {
                    Scale::Percentile => format!("{}", rounded(100.0 - 100.0 / value)),
                    Scale::Linear | Scale::Log => said(value),
                };
                let within = |value: &f64| *value <= self.high * 1.001;
                (0..=decades).map(at).filter(within).map(|value| (value, name(value))).collect()
            }
        }
    }
}

/// A step that people can count by: four to eight of them make `range`.
fn nice_step(range: f64) -> f64 {
    let rough = range / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough);
    factor.unwrap_or(10.0) * power
}

fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A number as short as three digits allow.
pub(super) fn said(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{}M", rounded((value / 1e4).round() / 100.0)),
        v if v >= 1e4 => format!("{}k", rounded((value / 100.0).round() / 10.0)),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{}", rounded((value * 10.0).round() / 10.0)),
        v if v >= 1.0 => format!("{}", rounded((value * 100.0).round() / 100.0)),
        _ => format!("{}", rounded((value * 1e4).round() / 1e4)),
    }
}

impl Chart {
    /// The drawing.
    pub(super) fn svg(&self) -> String {
        let of = |pick: fn(&(f64, f64)) -> f64| {
            self.lines.iter().flat_map(move |line| line.points.iter().map(pick))
        };
        let x = Placed::new(self.x, of(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Placed::new(self.y, of(|point| point.1), HEIGHT - BOTTOM, TOP).up_to_a_tick();
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\">\n\
             <text x=\"{LEFT}\" y=\"14\">{0}</text>\n",
            self.title
        );
        axes(&mut svg, &x, &y);
        for (number, line) in self.lines.iter().enumerate() {
            let mut path = String::new();
            for (at, value) in &line.points {
                let verb = if path.is_empty() { 'M' } else { 'L' };
                let _ = write!(path, "{verb}{:.1} {:.1}", x.place(*at), y.place(*value));
            }
            let _ = writeln!(svg, "<path class=\"line{number}\" d=\"{path}\"/>");
        }
        self.legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn legend(&self, svg: &mut String) {
        svg.push_str("<g class=\"legend\">");
        for (number, line) in self.lines.iter().enumerate() {
            let x = WIDTH - RIGHT - 110.0 * (self.lines.len() - number) as f64;
            let _ = write!(
                svg,
                "<line class=\"line{number}\" x1=\"{x}\" x2=\"{}\" y1=\"10\" y2=\"10\"/>\
                 <text x=\"{}\" y=\"14\">{}</text>",
                x + 20.0,
                x + 26.0,
                line.name
            );
        }
        svg.push_str("</g>\n");
    }
}

fn axes(svg: &mut String, x: &Placed, y: &Placed) {
    svg.push_str("<g class=\"axis\">");
    for (value, name) in y.ticks() {
        let at = y.place(value);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
        );
    }
    let bottom = HEIGHT - BOTTOM;
    for (value, name) in x.ticks() {
        let at = x.place(value);
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            bottom + 5.0,
            bottom + 18.0,
        );
    }
    let (end, last, middle) = (WIDTH - RIGHT, HEIGHT - 6.0, (TOP + bottom) / 2.0);
    let _ = writeln!(
        svg,
        "<text x=\"{end}\" y=\"{last}\" text-anchor=\"end\">{}</text>\
         <text x=\"12\" y=\"{middle}\" transform=\"rotate(-90 12 {middle})\" text-anchor=\"middle\">{}\
         </text></g>",
        x.axis.name, y.axis.name,
    );
}

/// One bar: what it is, how long, and what is written behind it.
pub(super) struct Bar {
    /// What it is.
    pub(super) name: String,
    /// How long.
    pub(super) value: f64,
    /// What is written behind it.
    pub(super) said: String,
}

/// Bars below each other, the longest as wide as there is room. Nothing for none.
pub(super) fn bars(title: &str, bars: Vec<Bar>) -> String {
    let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    if longest <= 0.0 {
        return String::new();
    }
    let height = BAR_HEIGHT * bars.len() as f64 + 24.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n\
         <text x=\"0\" y=\"14\">{title}</text>\n"
    );
    for (number, bar) in bars.into_iter().enumerate() {
        let y = 24.0 + BAR_HEIGHT * number as f64;
        let middle = y + 14.0;
        let width = (WIDTH - BAR_LEFT - BAR_RIGHT) * bar.value / longest;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"bar\" x=\"{BAR_LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{middle:.1}\">{}</text>",
            BAR_LEFT - 8.0,
            super::escaped(&bar.name),
            y + 3.0,
            BAR_HEIGHT - 8.0,
            BAR_LEFT + width + 6.0,
            super::escaped(&bar.said),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-6
    }

    #[test]
    fn a_value_has_its_place_on_either_scale() {
        let linear = Placed::new(Axis::linear("n"), [3.0, 10.0].into_iter(), 100.0, 200.0);
        assert!(close(linear.place(0.0), 100.0) && close(linear.place(5.0), 150.0));
        let log = Placed::new(Axis::log("ms"), [0.2, 30.0].into_iter(), 300.0, 0.0);
        assert!(close(log.place(0.1), 300.0), "from the power of ten below");
        assert!(close(log.place(100.0), 0.0) && close(log.place(1.0), 200.0));
        let nines = Placed::new(Axis::percentile("p"), [1.0, 1_000.0].into_iter(), 0.0, 300.0);
        assert!(close(nines.place(10.0), 100.0), "90% is a third of the way to 99.9%");
    }

    #[test]
    fn ticks_are_round() {
        let names = |axis, values: &[f64]| -> Vec<String> {
            let placed = Placed::new(axis, values.iter().copied(), 0.0, 1.0);
            placed.ticks().into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!(names(Axis::linear(""), &[1_234_567.0]), ["0", "500k", "1M"]);
        assert_eq!(names(Axis::log(""), &[0.05, 12.0]), ["0.01", "0.1", "1", "10", "100"]);
        assert_eq!(names(Axis::percentile(""), &[1.0, 1_000.0]), ["0", "90", "99", "99.9"]);
    }

    #[test]
    fn numbers_are_said_shortly() {
        let cases = [(0.0, "0"), (0.1234567, "0.1235"), (7.12345, "7.12"), (42.13, "42.1")];
        let more = [(999.4, "999"), (52_340.0, "52.3k"), (1_234_567.0, "1.23M")];
        for (value, expected) in cases.into_iter().chain(more) {
            assert_eq!(said(value), expected);
        }
    }

    #[test]
    fn nothing_to_draw_draws_nothing() {
        assert_eq!(bars("none", vec![]), "");
        let svg = Chart {
            title: "empty",
            x: Axis::linear("x"),
            y: Axis::log("y"),
            lines: vec![Line::new("none", vec![])],
        }
        .svg();
        assert!(svg.contains("</svg>") && !svg.contains("NaN"), "{svg}");
    }
}
