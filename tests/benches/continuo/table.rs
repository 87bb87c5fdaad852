//! Tables on standard output, columns aligned.

/// Prints a titled table. The first column is left-aligned, the others right-aligned.
pub fn print(title: &str, notes: &[&str], header: &[&str], rows: &[Vec<String>]) {
    println!("\n## {title}\n");
    notes.iter().for_each(|note| println!("{note}"));
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).chain([header[column].chars().count()]).max().unwrap_or(0))
        .collect();
    println!("\n{}", line(header.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>().as_slice(), &widths));
    println!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
    rows.iter().for_each(|row| println!("{}", line(row, &widths)));
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, width))| if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
        .collect();
    format!("| {} |", cells.join(" | "))
}

/// Microseconds with three significant decimals.
pub fn us(nanoseconds: f64) -> String {
    format!("{:.2} us", nanoseconds / 1e3)
}

/// Milliseconds with three significant decimals.
pub fn ms(nanoseconds: f64) -> String {
    format!("{:.2} ms", nanoseconds / 1e6)
}
