// Writes handlebars_cases.json: what handlebars.js prints for each case. Needs `npm install handlebars@4.7` in a scratch folder:
//   cd scratch && npm install handlebars@4.7 && node …/freeze.mjs > …/handlebars_cases.json
import { createRequire } from "node:module";
const Handlebars = createRequire(process.cwd() + "/")("handlebars");

const cases = [];
const add = (group, list) =>
  list.forEach(([template, data = {}, partials = {}]) => cases.push({ group, template, data, partials }));

// --- every kind of value under every kind of tag ---
const values = {
  text: "a<b>&\"'`=", empty: "", zero: 0, one: 1, whole: 1.0, minus: -5, half: 0.5, tiny: 1e-7, small: 0.000001, big: 1e21,
  large: 123456789012345680000, long: 1.2345678901234567e+25, third: 0.1, sum: 0.30000000000000004, exp: 1.5e-10,
  minusZero: -0, yes: true, no: false, nil: null, list: [1, "a", null, [2, 3]], none: [], map: { a: 1 }, bare: {}, maps: [{ a: 1 }, { a: 2 }],
  emoji: "😀é", digits: "12", space: " ",
};
const forms = [
  "{{v}}", "{{{v}}}", "{{&v}}", "{{#if v}}y{{else}}n{{/if}}", "{{#unless v}}y{{else}}n{{/unless}}",
  "{{#if v includeZero=true}}y{{else}}n{{/if}}", "{{#with v}}[{{this}}{{a}}]{{else}}n{{/with}}",
  "{{#each v}}[{{@key}}:{{@index}}:{{this}}:{{@first}}:{{@last}}]{{else}}n{{/each}}", "{{#v}}[{{this}}|{{a}}]{{else}}n{{/v}}",
  "{{^v}}n{{else}}y{{/v}}", "{{^v}}n{{/v}}", "{{v.length}}", "{{v.a}}", "{{v.[0]}}", "{{lookup v 0}}", '{{lookup v "a"}}',
  "{{#each v as |x k|}}[{{k}}={{x}}]{{/each}}", "{{#with v as |x|}}[{{x}}]{{/with}}", "{{> p v}}", "{{#v}}{{#if true}}{{this}}{{/if}}{{../v}}{{/v}}",
];
for (const form of forms)
  for (const [name, v] of Object.entries(values)) cases.push({ group: "values", template: form, data: { v }, partials: { p: "<{{this}}|{{a}}>" } });

add("paths", [
  ["{{a.b.c}}", { a: { b: { c: "x" } } }], ["{{a/b/c}}", { a: { b: { c: "x" } } }], ["{{a.b/c}}", { a: { b: { c: "x" } } }],
  ["{{this.a}}", { a: 1 }], ["{{./a}}", { a: 1 }], ["{{this/a}}", { a: 1 }], ["{{.}}", "x"], ["{{this}}", "x"], ["{{[a b]}}", { "a b": 1 }],
  ["{{a.[b c].d}}", { a: { "b c": { d: 1 } } }], ["{{[a]}}", { a: 1 }], ["{{[a.b]}}", { "a.b": 1 }], ["{{a.[0]}}", { a: [7] }], ["{{a.0}}", { a: [7] }],
  ["{{a.0.b}}", { a: [{ b: 7 }] }], ["{{a.[01]}}", { a: [7, 8] }], ["{{a.[-1]}}", { a: [7, 8] }], ["{{a.length}}", { a: [7, 8] }],
  ["{{a.b.c}}", { a: null }], ["{{a.b.c}}", {}], ["{{a.b.c}}", { a: 1 }], ["{{../a}}", { a: 1 }], ["{{../../a}}", { a: 1 }], ["{{a-b}}", { "a-b": 1 }],
  ["{{a_b}}", { a_b: 1 }], ["{{é}}", { é: 1 }], ["{{日本}}", { 日本: 1 }], ["{{a:b}}", { "a:b": 1 }], ["{{a?}}", { "a?": 1 }], ["{{$a}}", { $a: 1 }],
  ["{{1a}}", { "1a": 1 }], ["{{12}}", { 12: "x" }], ["{{1.5}}", { 1.5: "x" }], ['{{"a b"}}', { "a b": 1 }], ["{{'a b'}}", { "a b": 1 }],
  ["{{true}}", { true: "t" }], ["{{null}}", { null: "n" }], ["{{undefined}}", { undefined: "u" }], ["{{trueish}}", { trueish: 1 }],
  ["{{nullable}}", { nullable: 1 }], ["{{undefineds}}", { undefineds: 1 }], ["{{falsey}}", { falsey: 1 }], ["{{this.length}}", [1, 2]], ["{{length}}", [1, 2]],
  ["{{a.this}}", { a: { this: 1 } }], ["{{a.[this]}}", { a: { this: 1 } }], ["{{[this]}}", { this: 1 }], ["{{a..b}}", {}], ["{{a.}}", {}], ["{{.a}}", {}],
  ["{{a.../b}}", {}], ["{{a/../b}}", {}], ["{{./../a}}", { a: 1 }], ["{{#with o}}{{.././a}}{{/with}}", { a: 1, o: { b: 1 } }],
  ["{{@root.a}}", { a: 1 }], ["{{@root}}", "x"], ["{{@nothing}}", {}], ["{{@nothing.a}}", {}], ["{{#with a}}{{@root.b}}{{/with}}", { a: { b: 1 }, b: 2 }],
  ["{{constructor}}", {}], ["{{__proto__}}", {}], ["{{a.constructor.name}}", { a: {} }], ["{{a.__proto__.x}}", { a: {} }], ["{{toString}}", {}],
  ["{{a.constructor}}", { a: "x" }], ["{{a.hasOwnProperty}}", { a: "x" }], ["{{lookup a 'constructor'}}", { a: {} }], ["{{constructor}}", { constructor: "own" }],
  ["{{ a }}", { a: 1 }], ["{{\ta\n}}", { a: 1 }], ["{{  a.b  }}", { a: { b: 1 } }], ["{{a}}{{b}}", { a: 1, b: 2 }], ["{{elsewhere}}", { elsewhere: 1 }],
  ["{{else-where}}", { "else-where": 1 }], ["{{as}}", { as: 1 }], ["{{a.b}}", { a: [{ b: 1 }] }], ["{{s.[0]}}{{s.[1]}}{{s.length}}", { s: "é😀" }],
  ["{{a.[b]}}", { a: { b: 1 } }], ["{{a.[]}}", { a: { "": 1 } }], ["{{[b\\]c]}}", { "b]c": 1 }], ["{{a.[\\\\]}}", { a: { "\\": 1 } }], ["{{[a'b]}}", { "a'b": 1 }], ['{{[a"b]}}', { 'a"b': 1 }],
]);
add("escaping", [
  ["{{a}}", { a: "&amp;" }], ["{{{a}}}", { a: "<&>" }], ["{{& a}}", { a: "<&>" }], ["{{&a}}", { a: "<&>" }], ["{{~{a}~}}", { a: "<" }], [" {{~{a}~}} x", { a: "<" }],
  ["\\{{a}}", { a: 1 }], ["\\\\{{a}}", { a: 1 }], ["\\\\\\{{a}}", { a: 1 }], ["\\\\\\\\{{a}}", { a: 1 }], ["x\\{{a}}y{{a}}", { a: 1 }], ["\\{{a}}\\{{b}}{{c}}", { c: 1 }],
  ["\\{{{a}}}", { a: 1 }], ["\\{{{{a}}}}", { a: 1 }], ["a\\b{{a}}", { a: 1 }], ["{{a}}\\", { a: 1 }], ["\\{{", {}], ["\\{{a", {}], ["\\{{#if a}}x\\{{/if}}", {}],
  ["\\{{a}} \\\\{{b}} {{c}}", { a: 1, b: 2, c: 3 }], ["\\{{a}}\\\\{{b}}", { b: 2 }], ["{ {{a}} }", { a: 1 }], ["{{a}} }", { a: 1 }], ["}} {{a}}", { a: 1 }], ["{", {}], ["}", {}], ["{a}", {}],
  ["\\{{a}}\n{{#if b}}\nx\n{{/if}}\n", { b: 1 }], ["x \\{{a}}\n{{! c }}\ny", {}], ["{{a}}", { a: "=`" }], ["{{a}}", { a: ["<", ">"] }], ["{{{a}}}", { a: ["<", ">"] }], ["\\\n{{a}}", { a: 1 }],
]);
add("comments", [
  ["a{{! x }}b"], ["a{{!x}}b"], ["a{{!-- x --}}b"], ["a{{!-- }} --}}b"], ["a{{!-- {{x}} --}}b"], ["a{{!}}b"], ["a{{!----}}b"], ["a{{!-- -- --}}b"], ["a\n{{! x }}\nb"],
  ["a\n  {{! x }}  \nb"], ["a {{! x }}\nb"], ["a\n{{!-- x\ny --}}\nb"], ["{{! x }}\nb"], ["a\n{{! x }}"], ["a {{~! x ~}} b"], ["a {{~!-- x --~}} b"], ["a {{! x ~}} b"], ["a {{~! x }} b"],
  ["{{! }} }}"], ["{{!-- a }}b{{/if}}--}}c"], ["a\n{{! x }}{{! y }}\nb"], ["a{{!-}}b"], ["a{{!--}}b--}}c"], ["a{{!---}}b--}}c"], ["{{! x"], ["{{!-- x }}"], ["{{!-- x --"],
]);
add("if", [
  ["{{#if a}}1{{else if b}}2{{else if c}}3{{else}}4{{/if}}", { a: 1 }], ["{{#if a}}1{{else if b}}2{{else if c}}3{{else}}4{{/if}}", { b: 1 }],
  ["{{#if a}}1{{else if b}}2{{else if c}}3{{else}}4{{/if}}", { c: 1 }], ["{{#if a}}1{{else if b}}2{{else if c}}3{{else}}4{{/if}}", {}],
  ["{{#if a}}1{{else if b}}2{{/if}}", { b: 1 }], ["{{#if a}}1{{else if b}}2{{/if}}", {}], ["{{#if a}}1{{else unless b}}2{{else}}3{{/if}}", {}], ["{{#if a}}1{{else unless b}}2{{else}}3{{/if}}", { b: 1 }],
  ["{{#if a}}1{{else each b}}{{this}}{{else}}3{{/if}}", { b: [5, 6] }], ["{{#if a}}1{{else with b}}{{c}}{{/if}}", { b: { c: 7 } }], ["{{#if a}}1{{else b}}{{c}}{{/if}}", { b: { c: 7 } }],
  ["{{#unless a}}1{{else if b}}2{{else}}3{{/unless}}", { a: 1, b: 1 }], ["{{#unless a}}1{{else if b}}2{{else}}3{{/unless}}", { a: 1 }], ["{{#unless a}}1{{else}}2{{/unless}}", { a: 1 }],
  ["{{#each a}}{{this}}{{else if b}}x{{else}}y{{/each}}", { b: 1 }], ["{{#each a}}{{this}}{{else}}y{{/each}}", { a: [] }], ["{{#with a}}x{{else if b}}y{{/with}}", { b: 1 }],
  ["{{#if a}}{{#if b}}1{{else}}2{{/if}}{{else}}3{{/if}}", { a: 1 }], ["{{#if a}}{{else}}3{{/if}}", {}], ["{{#if a}}{{/if}}x", { a: 1 }], ["{{#if a}}x{{^}}y{{/if}}", {}],
  ["{{#if a}}x{{~^~}}y{{/if}}", {}], ["{{#if a}}x {{~else~}} y{{/if}}", {}], ["{{#if a}}x {{~else if b~}} y {{~else~}} z {{~/if}}", { b: 1 }], ["{{#if a}}x {{~else if b~}} y {{~else~}} z {{~/if}}", {}],
  ["{{#if a}} x {{else if b~}} y {{else}} z {{/if}}", { b: 1 }], ["{{#if a}} x {{else if b}} y {{~else}} z {{/if}}", { b: 1 }], ["{{#if a}} x {{~else if b}} y {{else if c~}} w {{else}} z {{/if}}", { c: 1 }],
  ["{{#if a}} x {{else if b}} y {{~/if}}", { b: 1 }], ["{{#if a}} x {{~else if b}} y {{/if}}", { a: 1 }], ["{{#if a}}x{{else}}y{{else}}z{{/if}}", {}], ["{{#if a}}x{{else}}y{{else if b}}z{{/if}}", {}],
  ["{{#if}}x{{/if}}", {}], ["{{#if a b}}x{{/if}}", {}], ["{{if a}}", { a: 1 }], ["{{else}}", {}], ["{{/if}}", {}], ["{{#if a}}x", {}], ["{{#if a}}x{{/unless}}", {}], ["{{^if a}}x{{/if}}", {}],
  ["{{^if a}}x{{else}}y{{/if}}", { a: 1 }], ["{{^unless a}}x{{/unless}}", { a: 1 }], ["{{#if a includeZero=false}}x{{else}}y{{/if}}", { a: 0 }], ["{{#unless a includeZero=true}}x{{else}}y{{/unless}}", { a: 0 }],
  ["{{#if a includeZero=b}}x{{else}}y{{/if}}", { a: 0, b: 1 }], ["{{#if this}}x{{/if}}", {}], ["{{#if .}}x{{else}}y{{/if}}", 0], ["{{#if ../a}}x{{/if}}", { a: 1 }], ["{{#if a.b}}x{{/if}}", { a: { b: 1 } }],
  ["{{#if true}}x{{/if}}", {}], ["{{#if 0}}x{{else}}y{{/if}}", {}], ['{{#if ""}}x{{else}}y{{/if}}', {}], ['{{#if "a"}}x{{/if}}', {}], ["{{#if null}}x{{else}}y{{/if}}", {}], ["{{#if a}}x{{elsewhere}}y{{/if}}", { a: 1, elsewhere: 2 }],
  ["{{#if a}}x{{ else }}y{{/if}}", {}], ["{{#if a}}x{{else  if   b}}y{{/if}}", { b: 1 }], ["{{#if a}}x{{else\nif b}}y{{/if}}", { b: 1 }], ["{{# if a}}x{{/ if}}", { a: 1 }], ["{{ #if a}}x{{/if}}", { a: 1 }],
  ["{{^}}", {}], ["{{#if a as |x|}}{{x}}{{b}}{{/if}}", { a: 1, x: 9, b: 2 }], ["{{#unless a as |x|}}{{x}}{{b}}{{/unless}}", { x: 9, b: 2 }], ["{{^a}}{{x}}{{/a}}", { x: 1 }], ["{{^a}}x{{else if b}}y{{/a}}", { a: 1, b: 1 }],
]);
add("each", [
  ["{{#each a}}{{@index}}{{@key}}{{@first}}{{@last}} {{/each}}", { a: ["x", "y"] }], ["{{#each a}}{{@index}}{{@key}}{{@first}}{{@last}} {{/each}}", { a: { x: 1, y: 2 } }],
  ["{{#each a}}{{#each this}}{{@../index}}{{@index}}{{this}} {{/each}}{{/each}}", { a: [[1, 2], [3]] }], ["{{#each a}}{{#each b}}{{../../c}}{{../d}}{{this}} {{/each}}{{/each}}", { a: [{ b: [1], d: 2 }], c: 3 }],
  ["{{#each a}}{{../b}}{{/each}}", { a: [1, 2], b: "x" }], ["{{#each a}}{{#if this}}{{../b}}{{/if}}{{/each}}", { a: [1, 2], b: "x" }], ["{{#each a}}{{#with this}}{{../b}}{{/with}}{{/each}}", { a: [{ c: 1 }], b: "x" }],
  ["{{#each a}}{{#with c}}{{../d}}{{../../b}}{{/with}}{{/each}}", { a: [{ c: { e: 1 }, d: 2 }], b: "x" }], ["{{#each a}}{{#each ../b}}{{this}}{{../c}}{{/each}}{{/each}}", { a: [{ c: 1 }, { c: 2 }], b: [3] }],
  ["{{#each a as |x|}}{{x.b}}{{/each}}", { a: [{ b: 1 }] }], ["{{#each a as |x i|}}{{i}}{{x}}{{/each}}", { a: ["p", "q"] }], ["{{#each a as |x k|}}{{k}}{{x}}{{/each}}", { a: { p: 1, q: 2 } }],
  ["{{#each a as |x|}}{{#each x.b as |y|}}{{x.c}}{{y}}{{/each}}{{/each}}", { a: [{ b: [1, 2], c: 3 }] }], ["{{#each a as |x|}}{{#each b as |x|}}{{x}}{{/each}}{{x.c}}{{/each}}", { a: [{ b: [1, 2], c: 3 }] }],
  ["{{#each a as |x|}}{{this.x}}{{./x}}{{x}}{{/each}}", { a: [{ x: 1 }] }], ["{{#each a as |x|}}{{#if x.b}}{{x.b}}{{/if}}{{/each}}", { a: [{ b: 1 }] }], ["{{#each a as |x i j|}}{{j}}{{/each}}", { a: [1], j: 2 }],
  ["{{#each a as |x|}}{{../x}}{{/each}}", { a: [1], x: 5 }], ["{{#each a as |x|}}{{#each ../a as |y|}}{{x}}{{y}}{{/each}}{{/each}}", { a: [1, 2] }], ["{{#each a as |if|}}{{if}}{{/each}}", { a: [1] }],
  ["{{#each a as |eq|}}{{eq 1}}{{/each}}", { a: [1] }], ["{{#each o}}{{@key}}={{this}};{{/each}}", { o: { b: 1, 2: 2, 1: 3, "01": 4, "-1": 5, 1.5: 6 } }], ["{{#each a}}{{/each}}x", { a: [1] }], ["{{#each a}}x{{/each}}", {}],
  ["{{#each}}x{{/each}}", {}], ["{{#each a b}}x{{/each}}", { a: [1] }], ["{{#each this}}{{this}}{{/each}}", [1, 2]], ["{{#each .}}{{this}}{{/each}}", { a: 1 }], ["{{#each a}}{{.}}{{/each}}", { a: ["<"] }], ["{{#each a}}{{{.}}}{{/each}}", { a: ["<"] }],
  ["{{#each a}}{{#if @first}}F{{/if}}{{#unless @last}},{{/unless}}{{/each}}", { a: [1, 2, 3] }], ["{{#each a}}{{@root.b}}{{/each}}", { a: [1], b: 2 }], ["{{#each a}}{{#each ../b}}{{@../index}}{{@../../index}}{{/each}}{{/each}}", { a: [1, 2], b: [1] }],
  ["{{#each a}}{{lookup ../b @index}}{{/each}}", { a: [1, 2], b: ["x", "y"] }], ["{{#each a}}{{lookup (lookup ../b @index) 'c'}}{{/each}}", { a: [1], b: [{ c: 5 }] }], ["{{#each a}}{{#with (lookup ../b @index)}}{{c}}{{/with}}{{/each}}", { a: [1], b: [{ c: 5 }] }],
  ["{{#each a}}{{../../b}}|{{/each}}", { a: [1], b: 2 }], ["{{#each a}}{{#each a}}{{../b}}{{/each}}{{/each}}", { a: [{ a: [1], b: 2 }] }], ["{{#each a}}[{{this}}]{{/each}}", { a: [null, false, 0, ""] }], ["{{#each a}}{{#if true}}[{{this}}]{{/if}}{{/each}}", { a: [null, 1, "x"] }],
  ["{{#each a}}{{#each ../a}}{{../../b}}{{../this}}{{this}};{{/each}}{{/each}}", { a: [1, 1], b: 2 }], ["{{#each a}}{{#with ..}}{{b}}{{/with}}{{/each}}", { a: [1], b: 2 }], ["{{#each a}}{{#each ..}}{{@key}}{{/each}}{{/each}}", { a: [1], b: 2 }],
  ["{{#each 'abc'}}x{{else}}n{{/each}}", {}], ["{{#each a}}{{@index}}{{else}}n{{/each}}", { a: {} }], ["{{#each a}}{{#if @index}}{{@index}}{{/if}}{{/each}}", { a: [1, 2, 3] }], ["{{#each a.b.c}}{{this}}{{/each}}", { a: { b: { c: [1] } } }], ["{{#each a}}\n  {{this}}\n{{/each}}\n", { a: [1, 2] }],
]);
add("with", [
  ["{{#with a}}{{b}}{{/with}}", { a: { b: 1 } }], ["{{#with a}}{{b}}{{else}}n{{/with}}", {}], ["{{#with a as |x|}}{{x.b}}{{/with}}", { a: { b: 1 } }], ["{{#with a as |x y|}}{{x.b}}{{y}}{{/with}}", { a: { b: 1 } }],
  ["{{#with a}}{{../c}}{{/with}}", { a: { b: 1 }, c: 2 }], ["{{#with a}}{{#with b}}{{../../c}}{{../d}}{{/with}}{{/with}}", { a: { b: { e: 1 }, d: 3 }, c: 2 }], ["{{#with a.b}}{{c}}{{/with}}", { a: { b: { c: 1 } } }], ["{{#with}}x{{/with}}", {}], ["{{#with a b}}x{{/with}}", {}],
  ["{{#with this}}{{a}}{{../a}}{{/with}}", { a: 1 }], ["{{#with a}}{{#with ..}}{{c}}{{/with}}{{/with}}", { a: { b: 1 }, c: 2 }], ["{{#with a}}{{this}}{{/with}}", { a: [] }], ["{{#with a as |x|}}{{#with b as |y|}}{{x.c}}{{y}}{{/with}}{{/with}}", { a: { b: 1, c: 2 } }], ["{{#with 5}}{{this}}{{/with}}", {}], ["{{#with 'x'}}{{this}}{{/with}}", {}],
  ["{{#with a as |a|}}{{#with a.b as |c|}}{{c}}{{a.b}}{{/with}}{{/with}}", { a: { b: 1 } }], ["{{#with x}}{{#if y}}{{../z}}{{/if}}{{/with}}", { x: { y: 1 }, z: 2 }],
]);
add("sections", [
  ["{{#a}}{{b}}{{/a}}", { a: { b: 1 } }], ["{{#a}}{{b}}{{/a}}", { a: [{ b: 1 }, { b: 2 }] }], ["{{#a}}{{@index}}{{@first}}{{@last}}{{@key}} {{/a}}", { a: [{ b: 1 }, { b: 2 }] }], ["{{#a}}x{{/a}}", { a: true }], ["{{#a}}{{b}}{{/a}}", { a: true, b: 1 }], ["{{#a.b}}{{c}}{{/a.b}}", { a: { b: { c: 1 } } }], ["{{#a/b}}{{c}}{{/a/b}}", { a: { b: { c: 1 } } }],
  ["{{#a/b}}{{c}}{{/a.b}}", { a: { b: { c: 1 } } }], ["{{#this}}{{a}}{{/this}}", { a: 1 }], ["{{#.}}{{this}}{{/.}}", [1, 2]], ["{{#a}}{{#../b}}{{c}}{{/../b}}{{/a}}", { a: { d: 1 }, b: { c: 1 } }], ["{{#a as |x|}}[{{x}}]{{/a}}", { a: [1, 2] }], ["{{#a as |x i|}}[{{x}}{{i}}]{{/a}}", { a: [1, 2] }], ["{{#a as |x|}}[{{x}}{{b}}]{{/a}}", { a: { b: 1 }, x: 3 }],
  ["{{#a as |x|}}[{{x}}]{{/a}}", { a: true, x: 3 }], ["{{#[a b]}}x{{/[a b]}}", { "a b": 1 }], ["{{#@root}}{{a}}{{/@root}}", { a: 1 }], ["{{#@root.a}}x{{/@root.a}}", { a: 1 }], ["{{#a}}{{.}}{{/a}}", { a: ["<", 2] }], ["{{^a}}x{{/a}}", { a: [] }], ["{{^a}}x{{/a}}", { a: 0 }], ["{{^a}}x{{/a}}", { a: "" }], ["{{^a.b}}x{{/a.b}}", {}],
  ["{{#a}}x{{^}}y{{/a}}", {}], ["{{#a}}x{{else}}y{{/a}}", { a: [] }], ["{{#a}}1{{/a}}{{^a}}2{{/a}}", {}], ["{{#a}}{{#b}}{{../../c}}{{/b}}{{/a}}", { a: { b: { d: 1 } }, c: 2 }], ["{{#a}}x{{/b}}", {}], ["{{#a}}{{/a b}}", { a: 1 }], ["{{#12}}x{{/12}}", { 12: 1 }], ['{{#"a"}}x{{/"a"}}', { a: 1 }], ["{{#a}}{{a}}{{/a}}", { a: { a: 1 } }], ["{{#each a}}{{#b}}{{../c}}{{/b}}{{/each}}", { a: [{ b: true, c: 1 }] }],
]);
add("helpers", [
  ["{{#if (eq a 1)}}x{{/if}}", { a: 1 }], ["{{#if (eq a '1')}}x{{else}}y{{/if}}", { a: 1 }], ["{{#if (and a b)}}x{{else}}y{{/if}}", { a: 1 }], ["{{#if (or a b)}}x{{/if}}", { a: 1 }], ["{{#if (not a)}}x{{/if}}", {}], ["{{#if (and (eq a 1) (or b (not c)))}}x{{/if}}", { a: 1 }], ["{{or a b}}", { b: "x" }], ["{{and a b}}", { a: 1, b: "x" }],
  ["{{upper a}}", { a: "x<" }], ["{{{upper a}}}", { a: "x<" }], ["{{&upper a}}", { a: "x<" }], ["{{upper 'a b'}}", {}], ['{{upper "a\\"b"}}', {}], ["{{upper 'a\\'b'}}", {}], ["{{upper \"a'b\"}}", {}], ["{{upper 'a\"b'}}", {}], ['{{upper "a\\nb"}}', {}], ['{{upper "}}"}}', {}], ['{{upper "{{"}}', {}], ["{{upper '\n'}}", {}], ['{{upper ""}}', {}],
  ["{{upper (upper a)}}", { a: "x" }], ["{{upper (lookup a 'b')}}", { a: { b: "x" } }], ["{{upper ( upper  a )}}", { a: "x" }], ["{{upper\na}}", { a: "x" }], ["{{join a '-'}}", { a: [1, 2] }], ["{{join a ', ' field='n'}}", { a: [{ n: 1 }, { n: 2 }] }], ["{{join a ', ' field = 'n'}}", { a: [{ n: 1 }] }], ["{{join a field=(lower 'N')}}", { a: [{ n: 1 }] }],
  ["{{join a\n  ', '\n  field='n'\n}}", { a: [{ n: 1 }] }], ["{{default a 'x'}}", {}], ["{{default a 'x'}}", { a: 0 }], ["{{default a 1.5}}", {}], ["{{default a -5}}", {}], ["{{default a 1.0}}", {}], ["{{default a true}}", {}], ["{{default a null}}", {}], ["{{default a undefined}}", {}], ["{{default a 100000000000000000000000}}", {}], ["{{default a .}}", "x"], ["{{default a ../b}}", {}],
  ["{{default a this}}", { c: 1 }], ["{{default a @root.b}}", { b: 1 }], ["{{#each x}}{{default a @index}}{{/each}}", { x: [{}, {}] }], ["{{#with x}}{{upper ../a}}{{/with}}", { a: "q", x: { y: 1 } }], ["{{#each x as |y|}}{{upper y}}{{/each}}", { x: ["a"] }], ["{{lookup a b}}", { a: { k: 1 }, b: "k" }], ["{{lookup a b}}", { a: [5], b: 0 }], ["{{lookup a b}}", { a: null, b: 0 }], ["{{lookup a b}}", { a: 0, b: 0 }],
  ["{{lookup a b}}", { a: "xyz", b: 1 }], ["{{lookup . 'a'}}", { a: 1 }], ["{{lookup a 'length'}}", { a: [1, 2] }], ["{{lookup a true}}", { a: { true: 1 } }], ["{{lookup a null}}", { a: { null: 1 } }], ["{{lookup a 1.5}}", { a: { 1.5: "x" } }], ["{{lookup a ''}}", { a: { "": 2 } }], ["{{lookup a b}}", { a: { "[object Object]": 1 }, b: {} }], ["{{lookup a b}}", { a: { "1,2": 1 }, b: [1, 2] }],
  ["{{log 'x'}}y", {}], ["{{log}}y", {}], ["{{upper.x}}", { upper: { x: 1 } }], ["{{this.upper}}", { upper: 5 }], ["{{./upper}}", { upper: 5 }], ["{{../upper}}", { upper: 5 }], ["{{nope a}}", { a: 1 }], ["{{nope.x a}}", { a: 1 }], ["{{#nope a}}x{{/nope}}", {}], ["{{upper (nope a)}}", {}], ["{{upper (nope)}}", {}], ["{{nope a=1}}", {}], ["{{(upper a)}}", { a: "x" }],
  ["{{upper a}}{{upper b}}", { a: "x", b: "y" }], ["{{#if (eq a b)}}x{{/if}}", { a: null, b: null }], ["{{#if (eq a b)}}x{{/if}}", { a: 1, b: 1.0 }], ["{{#if (eq a true)}}x{{else}}y{{/if}}", { a: 1 }], ["{{upper a", {}], ["{{upper (a}}", {}], ["{{upper a)}}", {}], ["{{upper 'a}}", {}], ["{{join a=1 b}}", {}], ["{{upper =a}}", {}], ["{{default a'x'}}", { a: 1 }], ["{{upper (upper a)(b)}}", {}],
  ["{{upper [a b]}}", { "a b": "x" }], ["{{upper a.[b c]}}", { a: { "b c": "x" } }], ["{{default a.b.c 'x'}}", {}], ["{{default a 'x' }}", {}], ["{{ default a 'x'}}", {}], ["{{~default a 'x'~}} z", {}], ["{{#if (upper 'x')}}y{{/if}}", {}], ["{{#each (lookup a 'b')}}{{this}}{{/each}}", { a: { b: [1, 2] } }], ["{{#with (default a b)}}{{c}}{{/with}}", { b: { c: 1 } }],
]);
add("whitespace", [
  ["a {{~b}} c", { b: 1 }], ["a {{b~}} c", { b: 1 }], ["a {{~b~}} c", { b: 1 }], ["a\n\n{{~b~}}\n\nc", { b: 1 }], ["a {{~{b}~}} c", { b: 1 }], ["a {{~&b~}} c", { b: 1 }], ["{{#if a~}} x {{~/if}}", { a: 1 }], [" {{~#if a}} x {{/if~}} y", { a: 1 }], ["{{#if a}} x {{~/if~}} y", { a: 1 }], [" {{~#if a~}} x {{~/if~}} ", { a: 1 }],
  ["a\n{{#if b}}\nc\n{{/if}}\nd", { b: 1 }], ["a\n  {{#if b}}  \nc\n  {{/if}}  \nd", { b: 1 }], ["a\n{{#if b}}\nc\n{{else}}\nd\n{{/if}}\ne", { b: 1 }], ["a\n{{#if b}}\nc\n{{else}}\nd\n{{/if}}\ne", {}], ["a\n{{#if b}}\nc\n{{else if d}}\nf\n{{else}}\ng\n{{/if}}\ne", { d: 1 }], ["a\n{{#if b}}\nc\n{{else if d}}\nf\n{{else}}\ng\n{{/if}}\ne", {}],
  ["a\n{{#if b}}\nc\n{{else if d}}\nf\n{{/if}}\ne", { d: 1 }], ["a\n  {{#if b}}\n  c\n  {{else if d}}\n  f\n  {{else if g}}\n  h\n  {{/if}}\n  e", { g: 1 }], ["a\n{{#if b}} c {{/if}}\nd", { b: 1 }], ["a {{#if b}}\nc\n{{/if}}\nd", { b: 1 }], ["{{#if b}}\nc\n{{/if}}", { b: 1 }], ["{{#if b}}\nc\n{{/if}}\n", { b: 1 }], ["  {{#if b}}\nc\n  {{/if}}  ", { b: 1 }],
  ["{{#each a}}\n{{this}}\n{{/each}}\n", { a: [1, 2] }], ["{{#each a}}\n  {{#if this}}\n    {{this}}\n  {{/if}}\n{{/each}}\n", { a: [1, 0, 2] }], ["a\r\n{{#if b}}\r\nc\r\n{{/if}}\r\nd", { b: 1 }], ["a\r\n{{! x }}\r\nb"], ["a\n{{#if b}}{{#if b}}\nx\n{{/if}}{{/if}}\nc", { b: 1 }], ["a\n{{#if b}}\n\n\nc\n\n\n{{/if}}\n\nd", { b: 1 }], ["{{#a}}\n{{/a}}\n{{^a}}\nx\n{{/a}}\n", {}],
  ["{{^a}}\nx\n{{else}}\ny\n{{/a}}\nz", { a: 1 }], ["{{^a}}\nx\n{{else}}\ny\n{{/a}}\nz", {}], ["a\n{{^}}", {}], ["a\n  {{> p}}\nb", {}, { p: "x\ny\n" }], ["a\n  {{> p}}\nb", {}, { p: "x\ny" }], ["a\n  {{> p}} z\nb", {}, { p: "x\ny" }], ["a\n\t{{> p}}\n", {}, { p: "x\n\ny\n" }], ["  {{> p}}", {}, { p: "x\ny" }], ["{{> p}}\nb", {}, { p: "x\n" }], ["a\n  {{~> p}}\nb", {}, { p: "x\ny" }], ["a\n  {{> p~}}\nb", {}, { p: "x\ny" }],
  ["a\n  {{> p}}\nb", {}, { p: "x\n  {{> q}}\ny", q: "1\n2\n" }], ["a\n  {{#> p}}\n  c\n  {{/p}}\nb", {}, { p: "<\n  {{> @partial-block}}\n>" }], ["a\n{{#> nope}}\nc\n{{/nope}}\nb", {}], ["{{#*inline 'x'}}\nc\n{{/inline}}\nb\n{{> x}}\nd", {}], ["a\n  {{#*inline 'x'}}\n c\n  {{/inline}}\nb{{> x}}d", {}], ["{{#if a}}x{{/if}} \n y", { a: 1 }], ["\n\n{{#if a}}\nx\n{{/if}}\n\n", { a: 1 }],
  ["a\u00a0{{~b~}}\u00a0c", { b: 1 }], ["a\ufeff{{~b~}}\u2028c", { b: 1 }], ["a\u0085{{~b~}}\u001cc", { b: 1 }], ["a\n\u00a0{{#if b}}\nc\n{{/if}}\nd", { b: 1 }], ["a\v\n{{! }}\v\nb"], ["{{b}} \n {{#if b}}\n x", {}], ["x{{#if b~}}\n\n y \n\n{{~/if}}z", { b: 1 }], ["x\n{{#if b~}}\ny\n{{~/if}}\nz", { b: 1 }], ["x\n{{~#if b}}\ny\n{{/if~}}\nz", { b: 1 }],
  ["{{#if a}}\n{{/if}}", { a: 1 }], ["{{#if a}}\n\n{{/if}}", { a: 1 }], ["{{#if a}} {{/if}}", { a: 1 }], ["{{#if a}}{{b}}\n{{/if}}\nc", { a: 1, b: 2 }], ["a\n{{b}}\nc", { b: 1 }], ["a\n{{{b}}}\nc", { b: 1 }], ["{{! a }}\n{{! b }}\nc"], ["{{#each a}}{{#unless @last}}\n{{/unless}}{{/each}}", { a: [1, 2] }], ["{{#if a}}{{else}}\nx\n{{/if}}\ny", {}], ["{{#if a}}\nx{{else}}\ny\n{{/if}}z", {}],
  ["{{#each a}}{{this}}{{else}}\nnone\n{{/each}}\n", {}], ["{{#if a}}\n x\n{{~else}}\n y\n{{/if}}\n", { a: 1 }], ["{{#if a}}\n x\n{{else~}}\n y\n{{/if}}\n", {}], ["{{#if a}}\n x\n{{~else if b~}}\n y\n{{~else~}}\n z\n{{~/if}}\n", { b: 1 }],
]);
add("partials", [
  ["{{> p}}", { a: 1 }, { p: "[{{a}}]" }], ["{{>p}}", { a: 1 }, { p: "[{{a}}]" }], ["{{> p b}}", { b: { a: 2 } }, { p: "[{{a}}]" }], ["{{> p b c=3}}", { b: { a: 2 } }, { p: "[{{a}}{{c}}]" }], ["{{> p c=3}}", { a: 2 }, { p: "[{{a}}{{c}}]" }], ["{{> p a=3}}", { a: 2 }, { p: "[{{a}}]" }], ["{{> p b=a}}", { a: 2 }, { p: "[{{b}}{{a}}]" }], ["{{> p b=(upper a)}}", { a: "x" }, { p: "[{{b}}]" }],
  ["{{> p this}}", { a: 2 }, { p: "[{{a}}]" }], ["{{> p ../a}}", { a: 2 }, { p: "[{{this}}]" }], ["{{#each a}}{{> p}}{{/each}}", { a: [{ b: 1 }, { b: 2 }] }, { p: "{{b}}{{@index}}{{@first}}" }], ["{{#each a}}{{> p}}{{/each}}", { a: [{ b: 1 }], c: 3 }, { p: "{{../c}}{{@root.c}}" }], ["{{#each a}}{{> p ..}}{{/each}}", { a: [1], c: 3 }, { p: "{{c}}" }], ["{{#each a as |x|}}{{> p x=x}}{{/each}}", { a: [1, 2] }, { p: "{{x}}" }],
  ["{{#each a as |x|}}{{> p}}{{/each}}", { a: [{ b: 1 }] }, { p: "{{x}}" }], ["{{> a/b}}", {}, { "a/b": "x" }], ["{{> a.b}}", {}, { "a.b": "x" }], ["{{> 'a b'}}", {}, { "a b": "x" }], ['{{> "a b"}}', {}, { "a b": "x" }], ["{{> [a b]}}", {}, { "a b": "x" }], ["{{> a-b}}", {}, { "a-b": "x" }], ["{{> 404}}", {}, { 404: "x" }], ["{{> a/b-c/d.e}}", {}, { "a/b-c/d.e": "x" }], ["{{> nope}}", {}],
  ["{{> p}}", {}, { p: "{{> q}}", q: "{{> r}}", r: "x" }], ["{{> (lookup . 'n')}}", { n: "p" }, { p: "x{{a}}" }], ["{{> (lookup . 'n') b}}", { n: "p", b: { a: 1 } }, { p: "x{{a}}" }], ["{{> (lookup . 'n') a=1}}", { n: "p" }, { p: "x{{a}}" }], ["{{> (lower 'P')}}", {}, { p: "x" }], ["{{> (lookup . 'n')}}", { n: "q" }, { p: "x" }], ["{{> (lookup . 'n')}}", {}, { p: "x" }],
  ["{{#> p}}b{{/p}}", {}, { p: "<{{> @partial-block}}>" }], ["{{#> p}}b{{a}}{{/p}}", { a: 1 }, { p: "<{{> @partial-block}}>" }], ["{{#> p}}b{{a}}{{/p}}", { a: 1 }, { p: "<>" }], ["{{#> p}}b{{/p}}", {}], ["{{#> p c}}b{{a}}{{/p}}", { c: { a: 1 } }, { p: "<{{> @partial-block}}>" }], ["{{#> p c}}b{{a}}{{/p}}", { c: { a: 1 } }], ["{{#> p a=2}}b{{a}}{{/p}}", { a: 1 }, { p: "<{{a}}{{> @partial-block}}>" }],
  ["{{#> p}}b{{../a}}{{/p}}", { a: 1 }, { p: "<{{#with x}}{{> @partial-block}}{{/with}}>" }], ["{{#> p}}b{{a}}{{/p}}", { a: 1, x: { a: 5 } }, { p: "<{{> @partial-block x}}>" }], ["{{#> p}}b{{a}}{{/p}}", { a: 1 }, { p: "<{{> @partial-block a=7}}>" }], ["{{#> p}}{{@index}}{{this}};{{/p}}", { l: [5, 6] }, { p: "{{#each l}}{{> @partial-block}}{{/each}}" }], ["{{#> p}}{{@../index}}{{@index}};{{/p}}", { l: [5, 6] }, { p: "{{#each l}}{{> @partial-block}}{{/each}}" }],
  ["{{#> p}}b{{/p}}", {}, { p: "{{> @partial-block}}{{> @partial-block}}" }], ["{{#> p}}1{{#> q}}2{{/q}}3{{/p}}", {}, { p: "p({{> @partial-block}})", q: "q({{> @partial-block}})" }], ["{{#> p}}x{{/p}}", {}, { p: "p({{#> q}}y{{> @partial-block}}{{/q}})", q: "q({{> @partial-block}})" }], ["{{#> p}}{{> @partial-block}}{{/p}}", {}, { p: "({{> @partial-block}})" }], ["{{> @partial-block}}", {}],
  ["{{#> p}}b{{/p}}", {}, { p: "{{> q}}", q: "<{{> @partial-block}}>" }], ["{{#> (lookup . 'n')}}b{{/lookup}}", { n: "p" }, { p: "x" }], ["{{#each l as |x|}}{{#> p}}{{x}}{{/p}}{{/each}}", { l: [1, 2] }, { p: "<{{> @partial-block}}>" }], ["{{#each l as |x|}}{{#> p}}{{#each ../l as |y|}}{{x}}{{y}}{{/each}}{{/p}}{{/each}}", { l: [1, 2] }, { p: "<{{> @partial-block}}>" }], ["{{#> p}}{{#if a}}x{{else}}y{{/if}}{{/p}}", {}, { p: "<{{> @partial-block}}>" }],
  ["{{#*inline 'x'}}i{{a}}{{/inline}}{{> x}}", { a: 1 }], ["{{> x}}{{#*inline 'x'}}i{{a}}{{/inline}}", { a: 1 }], ["{{#*inline 'x'}}i{{a}}{{/inline}}{{> x b}}", { b: { a: 2 } }], ["{{#*inline 'x'}}i{{a}}{{/inline}}{{> x a=3}}", {}], ["{{#*inline 'x'}}1{{/inline}}{{#*inline 'x'}}2{{/inline}}{{> x}}", {}], ["{{#*inline 'p'}}inline{{/inline}}{{> p}}", {}, { p: "registered" }], ["{{#if true}}{{#*inline 'x'}}i{{/inline}}{{> x}}{{/if}}", {}],
  ["{{#if true}}{{#*inline 'x'}}i{{/inline}}{{/if}}{{> x}}", {}], ["{{#*inline 'x'}}i{{/inline}}{{#each l}}{{> x}}{{/each}}", { l: [1, 2] }], ["{{#*inline 'x'}}{{this}}{{@index}}{{/inline}}{{#each l}}{{> x}}{{/each}}", { l: [1, 2] }], ["{{#*inline 'x'}}{{../a}}{{/inline}}{{#each l}}{{> x}}{{/each}}", { l: [1, 2], a: 3 }], ["{{#with o}}{{#*inline 'x'}}{{../a}}{{b}}{{/inline}}{{> x}}{{/with}}", { o: { b: 1 }, a: 3 }],
  ["{{#with o}}{{#*inline 'x'}}{{../a}}{{b}}{{/inline}}{{#with c}}{{> x}}{{/with}}{{/with}}", { o: { b: 1, c: { b: 2, a: 9 } }, a: 3 }], ["{{#each l as |y|}}{{#*inline 'x'}}{{y}}{{/inline}}{{> x}}{{/each}}", { l: [1, 2] }], ["{{#> layout}}{{#*inline 'title'}}T{{/inline}}{{#*inline 'body'}}B{{a}}{{/inline}}{{/layout}}", { a: 1 }, { layout: "<{{> title}}|{{> body}}>" }],
  ["{{#> layout}}{{#*inline 'title'}}T{{/inline}}{{/layout}}", {}, { layout: "<{{#> title}}default{{/title}}|{{#> body}}default{{/body}}>" }], ["{{#> layout}}{{#*inline 'nav'}}N{{/inline}}rest{{/layout}}", {}, { layout: "<{{> nav}}|{{> @partial-block}}>" }], ["{{#*inline 'nav'}}N{{/inline}}{{> layout}}", {}, { layout: "<{{> nav}}>" }], ["{{#*inline 'a'}}A{{> b}}{{/inline}}{{#*inline 'b'}}B{{/inline}}{{> a}}", {}],
  ["{{> layout}}", {}, { layout: "{{#*inline 'x'}}L{{/inline}}{{#> inner}}{{> x}}{{/inner}}", inner: "({{> @partial-block}})" }], ["{{#> p}}{{> x}}{{/p}}", {}, { p: "{{#*inline 'x'}}i{{/inline}}{{> @partial-block}}" }], ["{{#> p}}{{#*inline 'x'}}i{{/inline}}b{{> x}}{{/p}}", {}, { p: "{{> @partial-block}}{{> x}}" }], ["{{#*inline 'x'}}{{#*inline 'y'}}Y{{/inline}}{{> y}}{{/inline}}{{> x}}", {}],
  ["{{#*inline 'x'}}i{{else}}j{{/inline}}", {}], ["{{#*inline x}}i{{/inline}}{{> x}}", { x: "x" }], ["{{#*inline}}i{{/inline}}", {}], ["{{* deco}}", {}], ["{{#* deco}}x{{/deco}}", {}], ["{{#*inline 'x'}}{{> @partial-block}}{{/inline}}{{#> x}}b{{/x}}", {}], ["{{#> p}}x{{else}}y{{/p}}", {}, { p: "z" }], ["{{> p a b}}", {}, { p: "z" }], ["{{> p}}{{> p}}", { a: 1 }, { p: "{{a}}" }],
  ["{{> p l}}", { l: [1, 2] }, { p: "{{#each this}}{{this}}{{/each}}{{length}}" }], ["{{> p l x=1}}", { l: ["a", "b"] }, { p: "{{this.[0]}}{{x}}" }], ["{{> p s x=1}}", { s: "ab" }, { p: "{{this.[0]}}{{x}}" }], ["{{> p 'lit'}}", {}, { p: "{{this}}" }], ["{{> p nope}}", { a: 1 }, { p: "[{{a}}{{this}}]" }], ["{{> p nope x=1}}", { a: 1 }, { p: "[{{a}}{{x}}]" }], ["{{> p null}}", { a: 1 }, { p: "[{{a}}{{#if true}}{{this}}{{/if}}]" }],
  ["{{#with o}}{{> p}}{{/with}}", { o: { a: 1 }, b: 2 }, { p: "{{a}}{{../b}}{{@root.b}}" }], ["{{#if a}}{{> p}}{{else}}{{> q}}{{/if}}", {}, { p: "P", q: "Q" }], ["{{#> p}}{{#> p}}x{{/p}}{{/p}}", {}, { p: "<{{> @partial-block}}>" }], ["{{#> p}}{{#if @partial-block}}y{{else}}n{{/if}}{{/p}}", {}, { p: "{{> @partial-block}}" }], ["{{> p}}", {}, { p: "{{#if @partial-block}}y{{else}}n{{/if}}" }],
  ["{{> p depth=3}}", {}, { p: "{{depth}}{{#if more}}{{> p}}{{/if}}" }], ["{{> tree}}", { n: 1, c: [{ n: 2, c: [{ n: 3 }] }, { n: 4 }] }, { tree: "{{n}}({{#each c}}{{> tree}}{{/each}})" }],
]);
add("raw", [
  ["{{{{raw}}}}{{x}}{{{{/raw}}}}"], ["{{{{raw}}}} {{x}} {{{{/raw}}}}"], ["a{{{{raw}}}}\n{{#if}}\n{{{{/raw}}}}b"], ["a\n{{{{raw}}}}\nx\n{{{{/raw}}}}\nb"], ["{{{{raw}}}}{{{{x}}}}y{{{{/x}}}}{{{{/raw}}}}"], ["{{{{raw}}}}\\{{x}}{{{{/raw}}}}"], ["{{{{raw}}}}{{{{/raw}}}}x"], ["{{{{raw}}}}{{{{/raw}}}}{{a}}", { a: 1 }], ["{{{{nope}}}}x{{{{/nope}}}}"],
  ["{{{{a}}}}x{{{{/a}}}}", { a: true }], ["{{{{a}}}}{{x}}{{{{/a}}}}", { a: [1, 2] }], ["{{{{ raw }}}}x{{{{/raw}}}}"], ["{{{{raw}}}}x{{{{/other}}}}"], ["{{{{raw}}}}x"], ["{{{{/raw}}}}"], ["{{{{raw}}}}}x{{{{/raw}}}}"], ["{{{{raw}}}}{{!-- c --}}{{{{/raw}}}}"], ["{{#if a}}{{{{raw}}}}{{a}}{{{{/raw}}}}{{/if}}", { a: 1 }], ["{{{{raw}}}}x{{{{/raw}}}}y{{{{raw}}}}z{{{{/raw}}}}"], ["{{{{if a}}}}{{x}}{{{{/if}}}}", { a: 1 }],
]);
add("syntax", [
  ["{{}}"], ["{{ }}"], ["{{"], ["{{a"], ["{{a}"], ["{{a}}}", { a: 1 }], ["{{{a}}", { a: 1 }], ["{{{a}}}}", { a: 1 }], ["{{{{a}}}", { a: 1 }], ["{{a b}", {}], ["{{#}}x{{/}}"], ["{{>}}"], ["{{&}}"], ["{{#if a}}{{#if b}}{{/if}}"], ["{{a}}{{/a}}"], ["{{a,b}}"], ["{{a;b}}"], ["{{a+b}}"], ["{{a%}}"], ["{{a(b)}}"], ["{{a)}}"], ["{{(a}}"], ["{{a|b}}"], ["{{as |x|}}"], ["{{#each a as |}}{{/each}}"], ["{{#each a as ||}}{{/each}}"],
  ["{{#each a as |x}}{{/each}}"], ["{{#each a as x|}}{{/each}}"], ["{{#each a |x|}}{{/each}}"], ["{{#each a as |1|}}{{/each}}", { a: [1] }], ["{{a.b.}}"], ["{{a//b}}"], ["{{/a}}"], ["{{@}}"], ["{{@@a}}"], ["{{@a.b}}"], ["{{@../a}}"], ["{{@./a}}"], ["{{@this}}"], ["{{a @b}}"], ["{{'a}}"], ["{{\"a}}"], ["{{[a}}"], ["{{a]}}"], ["{{a=1}}"], ["{{upper a=}}"], ["{{upper =1}}"], ["{{~}}"], ["{{~~}}"], ["{{a~b}}"], ["{{ ~a}}"], ["{{a~ }}"], ["{{^a}}"], ["{{^^}}"], ["plain text"], [""], ["\n"], ["{ { a } }"],
  ["{{!}}"], ["{{a\u0000}}"], ["{{#if a}}\u00e9{{/if}}", { a: 1 }], ["{{<a}}"], ["{{a>b}}"], ["{{#a}}{{#b}}{{/a}}{{/b}}"], ["{{a.b c}}"], ["{{12 3}}"], ["{{a 1.}}"], ["{{a .5}}"], ["{{a 1e5}}"], ["{{`a`}}"], ["{{a\\b}}"], ["{{a.'b'}}"], ['{{a."b"}}'], ["{{else}}x"], ["{{#else}}x{{/else}}"], ["{{> }}"], ["{{#> }}{{/}}"], ["{{/if }}"], ["{{#if a}}x{{/if }}", { a: 1 }], ["{{#if a }}x{{/ if}}", { a: 1 }],
]);

const JS = Handlebars.Utils;
function environment() {
  const handlebars = Handlebars.create();
  const truthy = (v) => !JS.isEmpty(v) && v !== 0;
  const values = (args) => args.slice(0, -1);
  const helpers = {
    raw() { return arguments[arguments.length - 1].fn(this); },
    eq: (a, b) => (a ?? null) === (b ?? null),
    not: (a) => !truthy(a),
    and: (...args) => values(args).find((v) => !truthy(v)) ?? (values(args).every(truthy) ? values(args).at(-1) : null),
    or: (...args) => values(args).find(truthy) ?? values(args).at(-1),
    upper: (a) => (a == null ? "" : String(a).toUpperCase()),
    lower: (a) => (a == null ? "" : String(a).toLowerCase()),
    default: (a, b) => (a == null || a === "" ? b : a),
    join: (list, between, options) => {
      const hash = (options ?? between).hash;
      return list.map((v) => (hash.field ? v[hash.field] : v)).join(options ? between : ", ");
    },
  };
  handlebars.registerHelper(helpers);
  handlebars.log = () => {};
  handlebars.logger.log = () => {};
  return handlebars;
}

const frozen = cases.map((one) => {
  const handlebars = environment();
  handlebars.registerPartial(one.partials);
  const result = { ...one };
  if (!Object.keys(one.partials).length) delete result.partials;
  try {
    result.expected = handlebars.compile(one.template)(JSON.parse(JSON.stringify(one.data)));
  } catch (error) {
    result.error = String(error.message).split("\n")[0];
  }
  return result;
});
process.stdout.write("[\n" + frozen.map((one) => JSON.stringify(one)).join(",\n") + "\n]\n");
