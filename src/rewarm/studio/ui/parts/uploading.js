// Files on their way, piece by piece: what has arrived stays, and the same file goes on where it was cut off.
const PIECE = 8 << 20;

async function ask(path, options) {
  const answer = await fetch(path, options);
  const told = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw Object.assign(new Error([told?.what, told?.remedy].filter(Boolean).join("; ")), { told: true });
  return told;
}

const json = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

function size(count) {
  let unit = 0;
  for (; count >= 999.5 && unit < 4; unit++) count /= 1000;
  return `${unit ? count.toPrecision(3) : count} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
}

export default {
  template: `<div class="rw-uploads">
    <label class="rw-button">{{ words.upload }}<input type="file" multiple class="rw-hidden" @change="choose" /></label>
    <div v-for="file in files" :key="file.name" class="rw-row">
      <span>{{ file.name }}</span>
      <progress :max="file.size" :value="file.done" :aria-label="file.name"></progress>
      <span class="rw-quiet">{{ file.note }}</span>
    </div>
  </div>`,
  props: { text: String, words: Object },
  data: () => ({ files: [] }),
  methods: {
    async choose(event) {
      const chosen = [...event.target.files];
      event.target.value = "";
      for (const file of chosen) {
        const shown = { name: file.name, size: file.size, done: 0, note: "" };
        this.files = [...this.files.filter((other) => other.name !== file.name), shown];
        try {
          await this.send(file, this.files.at(-1));
        } catch (error) {
          this.files.at(-1).note = error.told ? error.message : this.words.upload_failed;
        }
      }
      this.$emit("ended");
    },
    async send(file, shown) {
      const unfinished = await ask("/api/v1/uploads");
      let upload = unfinished.find((known) => known.text === this.text && known.file === file.name && known.bytes === file.size);
      upload ??= await ask("/api/v1/uploads", json({ text: this.text, file: file.name, bytes: file.size }));
      const from = upload.offset;
      const began = performance.now();
      while (upload.offset < file.size) {
        const piece = file.slice(upload.offset, upload.offset + PIECE);
        upload = await ask(`/api/v1/uploads/${upload.id}?offset=${upload.offset}`, {
          method: "PUT", headers: { "Content-Type": "application/octet-stream" }, body: piece,
        });
        const speed = (upload.offset - from) / ((performance.now() - began) / 1000);
        shown.done = upload.offset;
        shown.note = `${size(upload.offset)} / ${size(file.size)} · ${size(speed)}/s · ${Math.ceil((file.size - upload.offset) / speed)} s`;
      }
      shown.note = this.words.upload_checking;
      await ask(`/api/v1/uploads/${upload.id}/finish`, json({}));
      shown.note = this.words.upload_done;
    },
  },
};
