// The graph comes in as JSON and goes out with places: the middle of each box, and of each
// row that a line passes through.
import { readFileSync } from "node:fs";
import { layout } from "dagre-d3-es/src/dagre/index.js";
import { Graph } from "dagre-d3-es/src/graphlib/index.js";

const { boxes, lines, ...options } = JSON.parse(readFileSync(0, "utf8"));
const graph = new Graph().setGraph(options).setDefaultEdgeLabel(() => ({}));
for (const { id, ...size } of boxes) graph.setNode(id, size);
for (const [source, target] of lines) graph.setEdge(source, target);
layout(graph);

// Between two rows dagre bends a line once more: there the drawing has a curve of its own.
const bends = (line) => graph.edge(...line).points.slice(1, -1).filter((_, index) => index % 2);

const { width, height } = graph.graph();
const placed = { boxes: boxes.map(({ id }) => graph.node(id)), lines: lines.map(bends) };
console.log(JSON.stringify({ width, height, ...placed }));
