//! The charts of a result's page, as SVG.

use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::outcome::{GroupOutcome, Outcome};
use super::table::{bytes, time};

const SIZE: (u32, u32) = (860, 300);
/// Told apart by most people with any colour vision, and in grey. Source: Okabe and Ito, "Color Universal Design", 2008.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const GREY: RGBColor = RGBColor(120, 120, 120);
const FONT: (&str, u32) = ("sans-serif", 12);

/// A drawing, and what its lines are: colour and name. Names stand beside the drawing, where they hide nothing.
pub(super) struct Chart {
    pub(super) svg: String,
    pub(super) legend: Vec<(String, String)>,
}

/// A line of one group.
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

type Plane = Cartesian2d<RangedCoordf64, RangedCoordf64>;

/// Bytes of each second.
pub(super) fn throughput(outcome: &Outcome) -> anyhow::Result<Chart> {
    #[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^53")]
    let curve = |group: &GroupOutcome| {
        let points = group.series.iter().enumerate().map(|(second, amounts)| (second as f64, amounts.bytes as f64));
        Curve { name: group.name.clone(), points: drop_last(points.collect()) }
    };
    draw(outcome.groups.iter().map(curve).collect(), &outcome.faults, &|at| format!("{at:.0} s"), &|value| {
        format!("{}/s", bytes(value))
    })
}

/// p50 and p99 of what was due in each second; the upper scale is logarithmic.
pub(super) fn latency_over_time(outcome: &Outcome) -> anyhow::Result<Chart> {
    let curves = outcome.groups.iter().flat_map(|group| {
        let of = |name: &str, figure: fn(&super::outcome::Second) -> f64| {
            #[expect(clippy::cast_precision_loss, reason = "runs last for minutes")]
            let points = group.series.iter().enumerate().map(move |(second, of)| (second as f64, decades(figure(of))));
            let points = drop_last(points.collect()).into_iter().filter(|(_, value)| value.is_finite()).collect();
            Curve { name: format!("{} {name}", group.name), points }
        };
        [of("p50", |second| second.p50_us), of("p99", |second| second.p99_us)]
    });
    draw(curves.collect(), &outcome.faults, &|at| format!("{at:.0} s"), &|value| time(10_f64.powf(value)))
}

/// How long how much of it took: both scales are logarithmic, towards 100% and in time.
pub(super) fn percentiles(outcome: &Outcome) -> anyhow::Result<Chart> {
    let curve = |group: &GroupOutcome| {
        let points = group.percentiles.iter().map(|(share, micros)| (nines(*share), decades(*micros)));
        Curve { name: group.name.clone(), points: points.filter(|(_, value)| value.is_finite()).collect() }
    };
    let share = |nines: f64| {
        let percent = 100.0 - 10_f64.powf(2.0 - nines);
        let digits = (nines - 2.0).round().clamp(0.0, 4.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
        let digits = digits as usize;
        format!("{percent:.digits$}%")
    };
    draw(outcome.groups.iter().map(curve).collect(), &[], &share, &|value| time(10_f64.powf(value)))
}

fn nines(share: f64) -> f64 {
    -(1.0 - share).max(1e-6).log10()
}

fn decades(micros: f64) -> f64 {
    micros.log10()
}

/// The last second is not a whole one.
fn drop_last(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.pop();
    points
}

pub(super) fn draw(
    curves: Vec<Curve>,
    faults: &[(f64, String)],
    across: &dyn Fn(f64) -> String,
    upwards: &dyn Fn(f64) -> String,
) -> anyhow::Result<Chart> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let span = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = points()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low < high {
            (low, high)
        } else if low.is_finite() {
            (low, low + 1.0)
        } else {
            (0.0, 1.0)
        }
    };
    let (x, (low, high)) = (span(|point| point.0), span(|point| point.1));
    // Amounts begin at nothing; decades where they begin.
    let low = if low >= 0.0 && high > 20.0 { 0.0 } else { low };
    let room = (high - low) * 0.08;
    let (mut text, mut legend) = (String::new(), Vec::new());
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(36)
            .x_label_area_size(24)
            .y_label_area_size(72)
            .build_cartesian_2d(x.0..x.1, low..high + room)?;
        mesh(&mut chart, across, upwards)?;
        for (at, what) in faults {
            let line = [(*at, low), (*at, high + room)];
            chart.draw_series(DashedLineSeries::new(line, 4, 4, GREY.stroke_width(1)))?;
            let place = chart.backend_coord(&(*at, high + room));
            area.draw(&Text::new(what.clone(), (place.0 + 3, place.1 + 2), FONT.into_font().color(&GREY)))?;
        }
        for (number, curve) in curves.into_iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            chart.draw_series(LineSeries::new(curve.points, colour.stroke_width(2)))?;
            let RGBColor(red, green, blue) = colour;
            legend.push((format!("rgb({red},{green},{blue})"), curve.name));
        }
        area.present()?;
    }
    Ok(Chart { svg: text, legend })
}

fn mesh<DB: DrawingBackend>(
    chart: &mut ChartContext<'_, DB, Plane>,
    across: &dyn Fn(f64) -> String,
    upwards: &dyn Fn(f64) -> String,
) -> anyhow::Result<()>
where
    DB::ErrorType: 'static,
    RangedCoordf64: ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.25))
        .axis_style(GREY)
        .x_labels(8)
        .y_labels(6)
        .x_label_formatter(&|at| across(*at))
        .y_label_formatter(&|value| upwards(*value))
        .label_style(FONT)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_of_nothing_and_of_one_point_can_be_drawn() {
        for points in [Vec::new(), vec![(0.0, 0.0)], vec![(0.0, 5.0), (1.0, 5.0)]] {
            let curves = vec![Curve { name: "ship".into(), points }];
            let faults = [(0.5, "node 1 is killed".to_owned())];
            let chart = draw(curves, &faults, &|at| at.to_string(), &|value| value.to_string()).expect("a chart");
            assert!(chart.svg.starts_with("<svg") && chart.svg.contains("node 1 is killed"), "{}", chart.svg);
            assert_eq!(chart.legend, [("rgb(0,114,178)".to_owned(), "ship".to_owned())]);
        }
    }

    #[test]
    fn nines_are_counted() {
        assert!((nines(0.9) - 1.0).abs() < 1e-9 && (nines(0.999) - 3.0).abs() < 1e-9 && nines(0.0).abs() < 1e-9);
    }
}
