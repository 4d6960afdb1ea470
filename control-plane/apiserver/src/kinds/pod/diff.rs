//! A unified diff of two texts with three lines of context, cut the way Python's difflib (and so Kubernetes) cuts it.

use std::collections::HashMap;

/// Lines of context around a change.
const CONTEXT: usize = 3;
/// In texts of at least this many lines, a line that makes up more than 1 % of them does not start a match.
const POPULAR_FROM: usize = 200;

/// A run of lines in both texts: equal, or the one standing in for the other.
#[derive(Clone, Copy, Debug)]
struct Block {
    equal: bool,
    old: (usize, usize),
    new: (usize, usize),
}

/// The hunks, without file headers; empty when nothing differs.
pub(super) fn unified(old: &str, new: &str) -> String {
    let old: Vec<&str> = old.lines().collect();
    let new: Vec<&str> = new.lines().collect();
    let mut out = String::new();
    for group in groups(blocks(&old, &new)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let range = |start: usize, end: usize| match end - start {
            0 => format!("{start},0"),
            1 => (start + 1).to_string(),
            length => format!("{},{length}", start + 1),
        };
        out.push_str(&format!(
            "@@ -{} +{} @@\n",
            range(first.old.0, last.old.1),
            range(first.new.0, last.new.1)
        ));
        for block in &group {
            let mut write = |sign: char, lines: &[&str]| {
                for line in lines {
                    out.push(sign);
                    out.push_str(line);
                    out.push('\n');
                }
            };
            if block.equal {
                write(' ', &old[block.old.0..block.old.1]);
            } else {
                write('-', &old[block.old.0..block.old.1]);
                write('+', &new[block.new.0..block.new.1]);
            }
        }
    }
    out
}

/// Both texts as alternating equal and changed blocks.
fn blocks(old: &[&str], new: &[&str]) -> Vec<Block> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    if new.len() >= POPULAR_FROM {
        let most = new.len() / 100 + 1;
        places.retain(|_, list| list.len() <= most);
    }
    let mut matches = Vec::new();
    let mut queue = vec![((0, old.len()), (0, new.len()))];
    while let Some((a, b)) = queue.pop() {
        let (i, j, size) = longest_match(old, new, &places, a, b);
        if size > 0 {
            matches.push((i, j, size));
            queue.push(((a.0, i), (b.0, j)));
            queue.push(((i + size, a.1), (j + size, b.1)));
        }
    }
    matches.sort_unstable();
    matches.push((old.len(), new.len(), 0));
    let mut blocks: Vec<Block> = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (a, b, size) in matches {
        if i < a || j < b {
            blocks.push(Block {
                equal: false,
                old: (i, a),
                new: (j, b),
            });
        }
        (i, j) = (a + size, b + size);
        match blocks.last_mut() {
            Some(last) if last.equal && size > 0 => (last.old.1, last.new.1) = (i, j),
            _ if size > 0 => blocks.push(Block {
                equal: true,
                old: (a, i),
                new: (b, j),
            }),
            _ => {}
        }
    }
    blocks
}

/// The longest run of equal lines within the two ranges, the earliest of several.
fn longest_match(
    old: &[&str],
    new: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    a: (usize, usize),
    b: (usize, usize),
) -> (usize, usize, usize) {
    let (mut best_i, mut best_j, mut best) = (a.0, b.0, 0);
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for (i, line) in old.iter().enumerate().take(a.1).skip(a.0) {
        let mut next = HashMap::new();
        for &j in places
            .get(line)
            .into_iter()
            .flatten()
            .filter(|j| (b.0..b.1).contains(j))
        {
            let length = j
                .checked_sub(1)
                .and_then(|before| lengths.get(&before))
                .copied()
                .unwrap_or(0)
                + 1;
            next.insert(j, length);
            if length > best {
                (best_i, best_j, best) = (i + 1 - length, j + 1 - length, length);
            }
        }
        lengths = next;
    }
    while best_i > a.0 && best_j > b.0 && old[best_i - 1] == new[best_j - 1] {
        (best_i, best_j, best) = (best_i - 1, best_j - 1, best + 1);
    }
    while best_i + best < a.1 && best_j + best < b.1 && old[best_i + best] == new[best_j + best] {
        best += 1;
    }
    (best_i, best_j, best)
}

/// Cuts the blocks into hunks, with context around each change.
fn groups(mut blocks: Vec<Block>) -> Vec<Vec<Block>> {
    if let Some(first) = blocks.first_mut().filter(|b| b.equal) {
        first.old.0 = first.old.0.max(first.old.1.saturating_sub(CONTEXT));
        first.new.0 = first.new.0.max(first.new.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = blocks.last_mut().filter(|b| b.equal) {
        last.old.1 = last.old.1.min(last.old.0 + CONTEXT);
        last.new.1 = last.new.1.min(last.new.0 + CONTEXT);
    }
    let mut groups = Vec::new();
    let mut group: Vec<Block> = Vec::new();
    for block in blocks {
        if block.equal && block.old.1 - block.old.0 > 2 * CONTEXT {
            let head = Block {
                old: (block.old.0, block.old.0 + CONTEXT),
                new: (block.new.0, block.new.0 + CONTEXT),
                ..block
            };
            group.push(head);
            groups.push(std::mem::take(&mut group));
            group.push(Block {
                old: (block.old.1 - CONTEXT, block.old.1),
                new: (block.new.1 - CONTEXT, block.new.1),
                ..block
            });
        } else {
            group.push(block);
        }
    }
    groups.push(group);
    groups.retain(|group| group.iter().any(|block| !block.equal));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunks_have_three_lines_of_context() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        assert_eq!(
            unified(old, &old.replace('5', "x")),
            "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n"
        );
        assert_eq!(
            unified(old, &old.replace("9\n", "9\n10\n")),
            "@@ -7,3 +7,4 @@\n 7\n 8\n 9\n+10\n"
        );
        assert_eq!(unified(old, old), "");
    }

    #[test]
    fn far_changes_are_two_hunks() {
        let old: String = (1..=30).map(|i| format!("{i}\n")).collect();
        let new = old.replace("\n3\n", "\n").replace("\n28\n", "\n28\nx\n");
        assert_eq!(unified(&old, &new).matches("@@ -").count(), 2);
    }
}
