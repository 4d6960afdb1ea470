//! sensor: a long-running `wasi:cli` command that reads a make-believe sensor and prints a line for each reading.
//!
//! `SENSOR_INTERVAL_MS` sets the pause (default 1000); an argument, if given, is the sensor's name. When `/config` is
//! mounted, `/config/unit` names the unit.

use std::time::Duration;

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "temperature".to_owned());
    let pause = std::env::var("SENSOR_INTERVAL_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let unit = std::fs::read_to_string("/config/unit").unwrap_or_else(|_| "C".to_owned());
    println!("sensor {name} started, a reading every {pause} ms");
    let mut state = 0x9E37_79B9_u32;
    for reading in 1_u64.. {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let value = 18.0 + f64::from(state % 800) / 100.0;
        println!("reading={reading} sensor={name} value={value:.2} unit={}", unit.trim());
        std::thread::sleep(Duration::from_millis(pause));
    }
}
