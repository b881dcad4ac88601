// The course's graph as a drawing, prerequisites above. In: boxes with their ids and sizes, and
// lines as pairs of ids; out: the left upper corner of each box, the path of each line, the sheet.
import { readFileSync } from "node:fs";
import { layout } from "dagre-d3-es/src/dagre/index.js";
import { Graph } from "dagre-d3-es/src/graphlib/index.js";

const SPACES = { nodesep: 16, edgesep: 10, ranksep: 48, marginx: 8, marginy: 8 };

const { boxes, lines } = JSON.parse(readFileSync(0, "utf8"));
const graph = new Graph().setGraph(SPACES).setDefaultEdgeLabel(() => ({}));
for (const { id, ...size } of boxes) graph.setNode(id, size);
for (const [source, target] of lines) graph.setEdge(source, target);
layout(graph);

const short = (number) => Number(number.toFixed(1));

function corner({ id, width, height }) {
  const { x, y } = graph.node(id);
  return { id, width, height, x: short(x - width / 2), y: short(y - height / 2) };
}

// From the bottom of a box to the top of another, upright through the rows between. Between two
// rows dagre bends a line once more: there the drawing has a curve of its own.
function path(source, target) {
  const [first, last] = [graph.node(source), graph.node(target)];
  const bends = graph.edge(source, target).points.slice(1, -1).filter((_, index) => index % 2);
  const parts = [`M${short(first.x)} ${short(first.y + first.height / 2)}`];
  let upper = first;
  for (const lower of [...bends, last]) {
    const middle = short((upper.y + lower.y) / 2);
    const end = short(lower.y - last.height / 2);
    parts.push(`C${short(upper.x)} ${middle} ${short(lower.x)} ${middle} ${short(lower.x)} ${end}`);
    if (lower !== last) parts.push(`V${short(end + last.height)}`);
    upper = lower;
  }
  return parts.join(" ");
}

const drawn = lines.map(([source, target]) => ({ source, target, path: path(source, target) }));
const { width, height } = graph.graph();
console.log(JSON.stringify({ width, height, boxes: boxes.map(corner), lines: drawn }));
