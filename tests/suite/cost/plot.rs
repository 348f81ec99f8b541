//! The plot of costs by group size in `docs/images`, as SVG.

use plotters::prelude::*;

/// A line of the plot: its name, and its points.
pub(super) struct Line {
    pub(super) name: String,
    /// Members, and USD per million messages.
    pub(super) points: Vec<(f64, f64)>,
}

/// Returns the plot.
pub(super) fn svg(lines: &[Line]) -> String {
    let mut text = String::new();
    draw(lines, &mut text).expect("a plot in memory can be drawn");
    text
}

fn draw(lines: &[Line], text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    const COLOURS: [RGBColor; 3] = [RGBColor(0, 110, 180), RGBColor(200, 90, 0), RGBColor(0, 140, 80)];
    let area = SVGBackend::with_string(text, (760, 440)).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let bounds = |values: &dyn Fn((f64, f64)) -> f64| {
        points().map(values).fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)))
    };
    let ((fewest, most), (least, dearest)) = (bounds(&|point| point.0), bounds(&|point| point.1));
    let mut chart = ChartBuilder::on(&area)
        .caption("Cost of a group message", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((fewest / 1.5..most * 1.5).log_scale(), (least / 1.5..dearest * 1.5).log_scale())?;
    chart.configure_mesh().x_desc("members, 20 % online").y_desc("USD per million messages").draw()?;
    for (line, colour) in lines.iter().zip(COLOURS) {
        let series = chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
        series.label(&line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(line.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(())
}
