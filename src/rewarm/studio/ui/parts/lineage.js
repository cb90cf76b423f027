// Where something comes from: what was used stands above what was made of it, in boxes that are plain links, with lines
// between them. A keyboard and a screen reader go through it as through any list.
export default {
  template: `<div class="rw-lineage" role="group" :aria-label="heading">
    <svg aria-hidden="true"><path v-for="path in paths" :d="path" /></svg>
    <div v-for="row in rows" class="rw-lineage-row">
      <component :is="node.link ? 'a' : 'div'" v-for="node in row" :key="node.id" :ref="(box) => keep(node.id, box)" :href="node.link || undefined"
        :class="['rw-lineage-node', { 'rw-lineage-here': node.here }]" :aria-current="node.here ? 'true' : undefined">
        <small>{{ node.word }}</small><span :title="node.label">{{ node.label }}</span>
      </component>
    </div>
  </div>`,
  props: { heading: String, rows: Array, edges: Array },
  data: () => ({ paths: [] }),
  mounted() {
    this.sized = new ResizeObserver(() => this.draw());
    this.sized.observe(this.$el);
  },
  unmounted() { this.sized?.disconnect(); },
  methods: {
    keep(id, box) { (this.boxes ??= {})[id] = box; },
    draw() {
      const here = this.$el.getBoundingClientRect();
      this.paths = this.edges.filter(([from, to]) => this.boxes[from] && this.boxes[to]).map(([from, to]) => {
        const [a, b] = [this.boxes[from].getBoundingClientRect(), this.boxes[to].getBoundingClientRect()];
        const [x, y, u, v] = [(a.left + a.right) / 2 - here.left, a.bottom - here.top, (b.left + b.right) / 2 - here.left, b.top - here.top];
        const half = (y + v) / 2;
        return `M${x} ${y}C${x} ${half} ${u} ${half} ${u} ${v - 5}m-4 -2l4 6l4 -6`;
      });
    },
  },
};
