//! SVG plots: the times of messages by the number of connections, and the rounds of a soak.

use std::path::Path;

use plotters::prelude::*;

use crate::Failure;
use crate::directory::Data;
use crate::messages::{Kind, Measured};
use crate::peers;
use crate::soak::Round;

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

/// The colours of the places of data in plots of rounds.
const PLACES: [(Data, &str, RGBColor); 2] =
    [(Data::Memory, "in memory", RGBColor(0, 110, 180)), (Data::Disk, "on disk", RGBColor(200, 90, 0))];

/// Writes the plot of the rounds: times above, memory and threads below.
pub(crate) fn write_rounds(path: &Path, rounds: &[Round]) -> Result<(), Failure> {
    let area = SVGBackend::new(path, (900, 760)).into_drawing_area();
    area.fill(&WHITE)?;
    let (above, below) = area.split_vertically(420);
    let minutes = rounds.iter().map(|round| round.minutes).fold(1.0, f64::max);
    let slowest = rounds.iter().map(|round| round.p99).fold(10.0, f64::max);
    let fastest = rounds.iter().map(|round| round.p50).fold(1.0, f64::min).max(0.01);
    let mut times = ChartBuilder::on(&above)
        .caption("Time of a message in each round: median (wide) and 99 of 100", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..minutes, (fastest / 1.5..slowest * 1.5).log_scale())?;
    times.configure_mesh().x_desc("minutes").y_desc("ms").draw()?;
    let most = rounds.iter().map(|round| round.resident_mib.max(round.threads as f64)).fold(1.0, f64::max);
    let mut sizes = ChartBuilder::on(&below)
        .caption("Resident MiB (wide) and threads of the server", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..minutes, (1.0..most * 1.5).log_scale())?;
    sizes.configure_mesh().x_desc("minutes").draw()?;
    for (data, name, colour) in PLACES {
        let of_run: Vec<&Round> = rounds.iter().filter(|round| round.data == data).collect();
        if of_run.is_empty() {
            continue;
        }
        let (wide, thin) = (colour.stroke_width(3), colour.stroke_width(1));
        let line = |value: fn(&Round) -> f64, style| {
            LineSeries::new(of_run.iter().map(move |round| (round.minutes, value(round))), style)
        };
        let median = times.draw_series(line(|round| round.p50, wide))?;
        median.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], wide));
        times.draw_series(line(|round| round.p99, thin))?;
        sizes.draw_series(line(|round| round.resident_mib, wide))?;
        sizes.draw_series(line(|round| round.threads as f64, thin))?;
    }
    times.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

/// Writes the plot of the peers: the rate of each by the number of connections.
pub(crate) fn write_peers(path: &Path, measured: &[peers::Measured]) -> Result<(), Failure> {
    let area = SVGBackend::new(path, (900, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = measured.iter().map(|one| one.most_per_second).fold(10.0, f64::max);
    let least = measured.iter().map(|one| one.most_per_second).fold(10.0, f64::min).max(1.0);
    let widest = measured.iter().map(|one| one.connections as f64).fold(2.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption("Messages a second, by connections", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d((1.5..widest * 1.3).log_scale(), (least / 2.0..most * 2.0).log_scale())?;
    chart.configure_mesh().x_desc("connections").y_desc("messages a second").draw()?;
    let colours = [
        (peers::Peer::ServerlessOffline, RGBColor(200, 90, 0)),
        (peers::Peer::LocalStack, RGBColor(0, 110, 180)),
        (peers::Peer::SocketIo, RGBColor(120, 120, 120)),
    ];
    for (peer, colour) in colours {
        let points = measured.iter().filter(|one| one.peer == peer);
        let points: Vec<_> = points.map(|one| (one.connections as f64, one.most_per_second)).collect();
        let style = colour.stroke_width(2);
        let line = chart.draw_series(LineSeries::new(points.clone(), style))?;
        line.label(peer.name()).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 4, colour.filled())))?;
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
