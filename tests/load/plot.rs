//! An SVG plot of the times of messages by the number of connections.

use std::path::Path;

use plotters::prelude::*;

use crate::Failure;
use crate::messages::{Kind, Measured};

/// The colours of the kinds. Each has lines for the median, 99 % and 99.9 %.
const COLOURS: [(Kind, RGBColor); 3] = [
    (Kind::Private, RGBColor(0, 110, 180)),
    (Kind::Acknowledged, RGBColor(200, 90, 0)),
    (Kind::Group, RGBColor(0, 140, 80)),
];

/// Writes the plot.
pub(crate) fn write(path: &Path, measured: &[Measured]) -> Result<(), Failure> {
    let area = SVGBackend::new(path, (900, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    let connections = measured.iter().map(|one| one.connections as f64);
    let (fewest, most) = connections.fold((f64::MAX, 1.0_f64), |(low, high), n| (low.min(n), high.max(n)));
    let slowest = measured.iter().map(|one| one.p999).fold(1.0, f64::max);
    let fastest = measured.iter().map(|one| one.p50).fold(1.0, f64::min).max(0.01);
    let mut chart = ChartBuilder::on(&area)
        .caption("Time of a message: median, 99 and 99.9 of 100", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((fewest / 1.5..most * 1.5).log_scale(), (fastest / 1.5..slowest * 1.5).log_scale())?;
    chart.configure_mesh().x_desc("connections").y_desc("ms").draw()?;
    for (kind, colour) in COLOURS {
        let of_kind: Vec<&Measured> = measured.iter().filter(|one| one.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        for (width, time) in [(3, 0), (2, 1), (1, 2)] {
            let points = of_kind.iter().map(|one| (one.connections as f64, [one.p50, one.p99, one.p999][time]));
            let style = colour.stroke_width(width);
            let line = chart.draw_series(LineSeries::new(points.clone(), style))?;
            if time == 0 {
                let name = format!("{kind:?}").to_lowercase();
                line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
            }
            chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
        }
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
