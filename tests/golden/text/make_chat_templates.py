"""Writes chat_templates.json: what jinja2, set up as transformers sets it up, renders from templates in
the manner of common models, and from snippets of the template language.

Needs jinja2 (3.1). A case is {name, source, variables, expected} or {..., "fails": true}."""

import datetime
import json
import pathlib

import jinja2
import jinja2.ext
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent


class Generation(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %} marks text and changes nothing."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(1753000000, datetime.timezone.utc).strftime(form)
    return env


CHATML = """{% for message in messages %}
{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}{% endif %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate user/assistant') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""

LLAMA3 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message comes first, whether given or not. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one tool call at a time") }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

QWEN2 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a careful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, roles must alternate.") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
        {%- if message == user_messages[-1] %}{{- "" }}{%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""

MACROS = """{%- macro turn(role, content, end='<|end|>') -%}
<|{{ role }}|>
{{ content | trim }}{{ end }}
{% endmacro -%}
{% generation %}{% for m in messages %}{{ turn(m.role, m.content) }}{% endfor %}{% endgeneration %}
{{ turn('assistant', '', end='') if add_generation_prompt else '<done>' }}"""

TEMPLATES = {"chatml": CHATML, "llama2": LLAMA2, "llama3": LLAMA3, "qwen2": QWEN2, "mistral": MISTRAL, "gemma": GEMMA,
             "zephyr": ZEPHYR, "macros": MACROS}

CONVERSATIONS = [
    [("user", "Hi")],
    [("system", "  Be brief.\n"), ("user", "What is 2+2?")],
    [("user", " leading and trailing \n"), ("assistant", "ok </think>\n\nfine "), ("user", "more\n\n")],
    [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")],
    [("user", "{{ braces }} {% not a tag %} 'quotes' \"double\" \u4f60\u597d \U0001F600 <|im_end|>")],
    [("assistant", "first"), ("user", "wrong order")],
    [("user", "<tool_response>x</tool_response>"), ("assistant", "y"), ("user", "<tool_response>z</tool_response>")],
    [],
]

SNIPPETS = [
    # Expressions.
    "{{ 1 + 2 * 3 - 4 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 4 / 2 }}",
    "{{ 1.5 + 1 }} {{ 1e20 }} {{ 1e15 }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ 0.00001 }} {{ 1.0 }} {{ -0.0 }} {{ 5.0 // 2 }} {{ -5.5 % 2 }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ 1 == true }} {{ '1' == 1 }} {{ none == none }}",
    "{{ not true }} {{ not 0 }} {{ true and 'x' }} {{ 0 or 'y' }} {{ '' or none }} {{ not 1 == 2 }}",
    "{{ 'a' ~ 1 ~ none ~ true ~ 1.5 }} {{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ 3 * [0] }} {{ [1] + [2, 'x'] }}",
    "{{ 'yes' if 1 else 'no' }} {{ 'yes' if 0 }}| {{ 'a' if false else 'b' if false else 'c' }}",
    "{{ [1, 'two', 3.0, none, true, [4], {'k': 'v'}, (5,), (6, 7), ()] }}",
    "{{ {'a': 1, 'b': [2, 3]} }} {{ {} }} {{ {'a': 1}['a'] }} {{ {'a': 1}.a }} {{ {'a': 1}.b }}|",
    "{{ \"it's\" }} {{ [\"it's\", 'say \"hi\"', \"both ' and \\\"\", 'back\\\\slash', 'tab\\tnew\\nline', 'nul\\x00', '\\u00e9\\u200b'] }}",
    "{{ 'esc: \\n\\t\\\\ \\' \\x41 \\u0042 \\101 \\q' }}",
    "{{ 'con' 'cat' }} {{ -3 | abs }} {{ -(2) }} {{ +5 }} {{ - 2 ** 2 }} {{ (1, 2)[0] }} {{ 1 if [] else 2 }}",
    "{{ 'abcdef'[1:4] }} {{ 'abcdef'[::-1] }} {{ 'abcdef'[-2:] }} {{ 'abcdef'[:-2] }} {{ 'abcdef'[::2] }} {{ 'abc'[10:] }} {{ 'abc'[-10:2] }}",
    "{{ [1,2,3,4,5][1:-1] }} {{ [1,2,3,4,5][::-2] }} {{ [1,2,3][5:] }} {{ '\u4f60\u597d\U0001F600x'[2] }} {{ '\u4f60\u597d\U0001F600x'[::-1] }} {{ [1,2,3][-1] }} {{ [1,2][5] }}|",
    "{{ 'b' in 'abc' }} {{ 'x' not in 'abc' }} {{ 2 in [1, 2] }} {{ 'k' in {'k': 1} }} {{ 'v' in {'k': 'v'} }} {{ '' in 'a' }}",
    "{{ x }}|{{ x is defined }}|{{ x | default('d') }}|{{ '' | default('e', true) }}|{{ none | default('n') }}|{{ x is undefined }}",
    "{{ items[0] }} {{ items[-1] }} {{ items | first }} {{ items | last }} {{ items | length }} {{ nested.a.b }} {{ nested['a']['b'] }} {{ nested.a.missing }}|",
    # Tests.
    "{{ 'a' is string }} {{ 1 is number }} {{ 1 is integer }} {{ true is integer }} {{ 1.0 is float }} {{ none is none }} {{ {} is mapping }} {{ [] is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ [] is sequence }} {{ {} is sequence }} {{ true is boolean }} {{ x is iterable }}",
    "{{ 3 is odd }} {{ 3 is even }} {{ 6 is divisibleby 3 }} {{ 1 is eq 1 }} {{ 1 is equalto 2 }} {{ 2 is gt 1 }} {{ 1 is in [1] }} {{ 1 is not none }} {{ not 1 is none }} {{ true is true }} {{ 1 is true }} {{ 'A' is upper }} {{ 'a' is lower }} {{ range is callable }}",
    "{{ 1 is number and 2 is number }} {{ x is defined or true }} {{ (1 is odd) == true }}",
    # Filters.
    "[{{ '  a b ' | trim }}] [{{ 'xxaxx' | trim('x') }}] {{ 'aBc' | upper }} {{ 'aBc' | lower }} {{ 'aBC dEF' | capitalize }} {{ 'aBC dEF-ghi' | title }}",
    "{{ [1, 2, 3] | join(', ') }} {{ ['a', 'b'] | join }} {{ items | map('upper') | join('-') }} {{ records | map(attribute='name') | list }} {{ records | map(attribute='zz', default='-') | join }}",
    "{{ records | selectattr('ok') | map(attribute='name') | join(',') }} {{ records | rejectattr('ok') | map(attribute='name') | join(',') }} {{ records | selectattr('n', 'gt', 1) | list | length }} {{ [1,2,3,4] | select('even') | list }} {{ [0,1,''] | select | list }} {{ [1,2,3] | reject('odd') | list }}",
    "{{ 'a-b-c' | replace('-', '+') }} {{ 'a-b-c' | replace('-', '+', 1) }} {{ '42' | int }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ 3.9 | int }} {{ '2.5' | float }} {{ 5 | string + '!' }} {{ 'abc' | list }} {{ 'abc' | length }} {{ '\u4f60\u597d' | length }}",
    "{{ {'b': 1, 'a': [1, 2.5, none, true, 'x\"y\\n\u00e9\u4f60/']} | tojson }} {{ {'b': 1, 'a': [1, {}], 'c': {}, 'd': []} | tojson(indent=2) }} {{ '<&>' | tojson }} {{ '\\x01\\x7f' | tojson }}",
    "{{ {'b': 1, 'a': 2} | items | list }} {{ x | items | list }} {{ [3,1,2] | sort }} {{ ['b','A','c'] | sort }} {{ [3,1,2] | sort(reverse=true) | list }} {{ [1,2,2,'a','A'] | unique | list }} {{ [1,2,3] | sum }} {{ [1,2,3] | reverse | list }} {{ 'abc' | reverse }}",
    "{{ 'line1\\nline2\\n\\nline4' | indent(2) }}|{{ 'a\\nb' | indent(2, true) }}|{{ 'a\\n\\nb' | indent(1, false, true) }}",
    "{{ 'a' | default('b') | upper ~ '!' }} {{ ['x'] | first | upper }} {{ [] | first }}| {{ [] | last }}|",
    # Methods.
    "{{ '  x '.strip() }}|{{ '  x '.lstrip() }}|{{ '  x '.rstrip() }}|{{ 'xyx'.strip('x') }}|{{ 'a,b,,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a b c'.split(' ', 1) }}|{{ 'a b  c '.split(none, 1) }}|{{ 'a.b.c'.rsplit('.', 1) }}|{{ ' a b c '.rsplit(none, 1) }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'bc')) }} {{ 'abcabc'.find('c') }} {{ 'abc'.find('z') }} {{ 'abcabc'.rfind('c') }} {{ 'banana'.count('an') }} {{ '\u4f60\u597d!'.find('!') }} {{ 'a-b'.replace('-', '') }} {{ 'ab'.replace('', '.') }} {{ 'x'.join(['a', 'b']) }}",
    "{{ 'aB'.upper() }} {{ 'aB'.lower() }} {{ 'hello world'.title() }} {{ 'HELLO'.capitalize() }} {{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }} {{ 'a\\nb\\r\\nc\\n'.splitlines() }}",
    "{{ nested.keys() | list }} {{ nested.get('a') }} {{ nested.get('zz') }} {{ nested.get('zz', 5) }} {{ nested.values() | list }} {% for k, v in nested.items() %}{{ k }}={{ v }};{% endfor %}",
    "{{ [1, 2, 1].count(1) }} {{ [1, 2].index(2) }}",
    # Statements.
    "{% for i in [1,2,3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.cycle('a','b') }} {{ loop.previtem }}|{{ loop.nextitem }};{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %} {% for i in [1,2,3,4] if i is even %}{{ i }}{{ loop.index }}{% endfor %} {% for a, b in [(1,2),(3,4)] %}{{ a+b }} {% endfor %} {% for c in 'ab' %}[{{ c }}]{% endfor %} {% for k in {'x':1,'y':2} %}{{ k }}{% endfor %} {% for i in x %}no{% endfor %}",
    "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %} {{ range(2, 8, 3) | list }} {{ range(3, 0, -1) | list }}",
    "{% for i in [1,2] %}{% for j in [1,2] %}{{ loop.index }}{{ loop.depth }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% set a = 1 %}{% for i in [1,2] %}{% set a = a + i %}{{ a }} {% endfor %}{{ a }} {% if true %}{% set a = 9 %}{% endif %}{{ a }} {% set p, q = 1, 2 %}{{ p }}{{ q }}",
    "{% set ns = namespace(n=0, found=false) %}{% for i in [1,2,3] %}{% set ns.n = ns.n + i %}{% if i == 2 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }} {{ ns.found }} {{ ns.missing is defined }}",
    "{% set block %}hi {{ 1 + 1 }}{% endset %}[{{ block }}] {% set up | upper | trim %} shout {% endset %}[{{ up }}]",
    "{% macro m(a, b='B', c=none) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m('x') }} {{ m('x', c=3) }} {{ m(b=1, a=2) }} {{ m('q') | length }} {% set g = 'G' %}{% macro n() %}{{ g }}{{ zz }}{% endmacro %}{{ n() }}",
    "{% macro deep(n) %}{{ n }}{% if n > 0 %}{{ deep(n - 1) }}{% endif %}{% endmacro %}{{ deep(5) }}",
    "{% if x %}a{% elif items %}b{% else %}c{% endif %}{% if not items %}d{% elif false %}e{% else %}f{% endif %}",
    "{% raw %}{{ not rendered }} {% if %}{% endraw %}|{# comment {{ x }} #}|{#- trimmed -#} |  {#- c #} y",
    "{{ strftime_now('%Y-%m-%d %d %b %A') }}",
    # White space.
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    "a  {%- if true -%}  b  {%- endif -%}  c\n\n",
    "  {%+ if true %}\n  x\n  {%+ endif +%}\n y",
    "x {{- ' y ' -}} z {{ 'w' }}\n\n{{ 'v' }}\n",
    "\n\n{% set q = 1 %}\n\n  {{ q }}\n  {# c #}\n  text {# d #}  \n   {% set r = 2 %}   \nend\n\n",
    "line1\r\nline2\r{% if true %}\r\n  in\r\n{% endif %}\r\nend\r\n",
    "{% for i in [1,2] -%}\n   {{ i }}\n{%- endfor %}\n{% for i in [1,2] %}\n   {{ i }}\n{% endfor %}",
    "{%- raw -%}  keep {{ }}  {%- endraw -%}  after {% raw %}\n x \n  {% endraw %}\nq",
    "{ { % } } {{ '}}' }} {{ '%}' }} {{ {'a': {'b': 1}}['a']['b'] }} {{ {'a':{}} }}",
    "\u00a0{% if true %}nbsp{% endif %}\n\u3000{% if true %}\u3000x{% endif -%}\u3000y",
]

FAILURES = [
    "{{ raise_exception('no') }}", "{{ x.y }}", "{{ x + 1 }}", "{{ x() }}", "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ 1 / 0 }}",
    "{{ items.append(1) }}", "{{ nested.update({}) }}", "{% for i in 5 %}{% endfor %}", "{{ 1 < 'a' }}", "{{ none + 1 }}",
    "{{ 'a' | nofilter }}", "{{ 1 is notest }}", "{% if %}{% endif %}", "{% for x in y %}", "{% endif %}", "{{ 1 +", "{{ }}", "{% nope %}",
    "{{ 'unterminated }}", "{# no end", "{% raw %}x", "{{ (1 }}", "{{ 1 ) }}", "{% set 1 = 2 %}", "{{ [1][0 }}", "{{ 'abc'.split('') }}",
    "{{ range(1000000) | length }}", "{% macro r() %}{{ r() }}{% endmacro %}{{ r() }}", "{% set a.b = 1 %}", "{{ 1 in 5 }}", "{% break %}",
    "{% for a, b in [1] %}{% endfor %}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(zz=2) }}",
    "{{ none.x.y }}", "{{ {'a': 1} | tojson | nofilter }}", "{{ range(0, 5, 0) }}", "{{ 'x' is divisibleby 2 }}",
]

VARIABLES = {
    "items": ["one", "two", "three"],
    "nested": {"a": {"b": "deep"}, "n": 5},
    "records": [{"name": "ada", "ok": True, "n": 1}, {"name": "bob", "ok": False, "n": 2}, {"name": "cy", "ok": True, "n": 3}],
}


def render(source, variables):
    return environment().from_string(source).render(**variables)


def case(name, source, variables):
    out = {"name": name, "source": source, "variables": variables}
    try:
        out["expected"] = render(source, variables)
    except Exception as error:  # whatever jinja2 or Python refuses with
        out["fails"] = f"{type(error).__name__}: {error}"[:120]
    return out


def main():
    cases = []
    for name, source in TEMPLATES.items():
        for i, conversation in enumerate(CONVERSATIONS):
            variables = {
                "messages": [{"role": role, "content": content} for role, content in conversation],
                "tools": None, "documents": None, "add_generation_prompt": i % 2 == 0,
                "bos_token": "<s>", "eos_token": "</s>",
            }
            cases.append(case(f"{name} {i}", source, variables))
    for i, source in enumerate(SNIPPETS):
        result = case(f"snippet {i}", source, VARIABLES)
        assert "expected" in result, result
        cases.append(result)
    for i, source in enumerate(FAILURES):
        result = case(f"failure {i}", source, VARIABLES)
        assert "fails" in result, result
        cases.append(result)
    text = ",\n".join(json.dumps(c, ensure_ascii=True, separators=(",", ":")) for c in cases)
    (HERE / "chat_templates.json").write_text(f"[\n{text}\n]\n")
    print(len(cases), "cases,", sum("fails" in c for c in cases), "of them refused")


if __name__ == "__main__":
    main()
