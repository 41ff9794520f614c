#include "text/chat_template.h"

#include <ctime>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "tests/support/golden.h"
#include "text/jinja/template.h"

namespace headrace {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using testing::golden_path;
using ::testing::HasSubstr;
using testing::read_file;

jinja::Value to_value(const json& from) {
  if (from.is_null()) return jinja::Value(jinja::None{});
  if (from.is_boolean()) return jinja::Value(from.get<bool>());
  if (from.is_number_integer()) return jinja::Value(from.get<int64_t>());
  if (from.is_number()) return jinja::Value(from.get<double>());
  if (from.is_string()) return jinja::Value(from.get<std::string>());
  if (from.is_array()) {
    std::vector<jinja::Value> items;
    for (const json& item : from) items.push_back(to_value(item));
    return jinja::make_list(std::move(items));
  }
  jinja::Variables items;
  for (const auto& [key, value] : from.items()) items.emplace_back(key, to_value(value));
  return jinja::make_dict(std::move(items));
}

jinja::Variables variables_of(const json& from) {
  jinja::Variables variables;
  for (const auto& [name, value] : from.items()) variables.emplace_back(name, to_value(value));
  return variables;
}

std::string render(const std::string& source, const jinja::Variables& variables = {}) {
  jinja::RenderOptions options;
  options.unix_time = 1753000000;  // as in make_chat_templates.py
  return jinja::Template(source).render(variables, options);
}

// tests/golden/text/make_chat_templates.py wrote the expected texts with jinja2.
TEST(ChatTemplateGoldenTest, RendersAsJinja2Does) {
  const json cases = json::parse(read_file(golden_path("text/chat_templates.json")));
  ASSERT_GT(cases.size(), 150u);
  for (const json& item : cases) {
    const std::string source = item["source"];
    const auto variables = variables_of(item["variables"]);
    if (item.contains("fails")) {
      EXPECT_THROW(render(source, variables), jinja::Failure)
          << item["name"] << ": " << source << "\njinja2: " << item["fails"];
      continue;
    }
    try {
      EXPECT_EQ(render(source, variables), item["expected"].get<std::string>()) << item["name"];
    } catch (const jinja::Failure& failure) {
      ADD_FAILURE() << item["name"] << ": " << source << "\n" << failure.what();
    }
  }
}

std::string error_of(const std::string& source, const std::vector<ChatMessage>& messages) {
  try {
    ChatTemplate(source, "<s>", "</s>").render(messages);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(ChatTemplateTest, RendersAConversation) {
  const ChatTemplate chat(
      "{{ bos_token }}{% for m in messages %}[{{ m.role }}: {{ m['content'] }}]{% endfor %}"
      "{% if add_generation_prompt %}>{% endif %}{{ tools is none }}",
      "<s>", "");
  EXPECT_EQ(chat.render({{"user", "a"}, {"assistant", "b"}}), "<s>[user: a][assistant: b]>True");
  EXPECT_EQ(chat.render({{"user", "a"}}, {.add_generation_prompt = false}), "<s>[user: a]True");
}

TEST(ChatTemplateTest, InvalidBytesBecomeReplacementCharacters) {
  const ChatTemplate chat("{{ messages[0].content | length }}{{ messages[0].content }}", "", "");
  EXPECT_EQ(chat.render({{"user", "a\xFF\xE4\xBD"}}), "3a\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(ChatTemplateTest, ErrorsNameTheLineAndTheReason) {
  EXPECT_THAT(error_of("a\nb\n{{ raise_exception('roles must alternate') }}", {}),
              AllOf(HasSubstr("[chat template] line 3"), HasSubstr("roles must alternate")));
  EXPECT_THAT(error_of("{% if x %}\n{{ y", {}), HasSubstr("line 2"));
  EXPECT_THAT(error_of("{{ a.b }}", {}), HasSubstr("'a' is undefined"));
  EXPECT_THAT(error_of("{% include 'x' %}", {}), HasSubstr("not supported"));
}

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(ChatTemplateTest, HostileTemplatesEndWithAnErrorSoon) {
  const std::string doubled = repeated("{% set x = x ~ x %}", 60);
  const std::string nested_loops = repeated("{% for i in range(99999) %}", 10);
  const std::string sources[] = {
      "{% set x = 'abcdefgh' %}" + doubled,
      "{% set x = [1, 2, 3] %}" + repeated("{% set x = x + x %}", 60),
      "{% set x = [1] %}" + repeated("{% set x = [x, x] %}", 50) + "{{ x }}",
      "{% set x = [1] %}" + repeated("{% set x = [x, x] %}", 50) + "{{ x == [x] + [x] or x }}",
      "{{ 'x' * 99999999999 }}",
      "{{ [1] * 99999999999 }}",
      nested_loops + repeated("{% endfor %}", 10),
      "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{{ 'b' in s }}{% endfor %}",
      "{% set s = 'a' * 2000000 %}{{ (s ~ 'b') in (s ~ s) }}",
      "{% set s = 'a' * 9000000 %}{{ s | replace('a', 'bbbbbbbbbb') }}",
      "{% set ns = namespace(x=1) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}",
      "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
      "{{ " + repeated("(", 100000) + "1" + repeated(")", 100000) + " }}",
      "{{ 1" + repeated(" + 1", 100000) + " }}",
      "{{ x" + repeated(".y", 100000) + " }}",
      "{{ x" + repeated(" | trim", 100000) + " }}",
      "{{ " + repeated("not ", 100000) + "1 }}",
      "{{ " + repeated("-", 100000) + "1 }}",
      repeated("{% if 1 %}", 100000) + repeated("{% endif %}", 100000),
      "{{ 9223372036854775807 + 1 }}",
      "{{ 2 ** 64 }}",
      "{{ (-9223372036854775807 - 1) // -1 }}",
  };
  for (const std::string& source : sources) {
    const std::clock_t start = std::clock();
    EXPECT_NE(error_of(source, {}), "no error") << source.substr(0, 200);
    EXPECT_LT(std::clock() - start, 20 * CLOCKS_PER_SEC) << source.substr(0, 200);
  }
}

TEST(ChatTemplateTest, NamespacesThatFormCyclesAreFreed) {
  // The leak checker of the sanitizer build is the witness.
  EXPECT_EQ(render("{% set a = namespace() %}{% set b = namespace(other=a) %}"
                   "{% set a.other = b %}{{ a.other.other.other is defined }}"),
            "True");
}

TEST(ChatTemplateTest, LongConversationsStayWithinTheLimits) {
  const ChatTemplate chat(
      "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
      "{{ 'system' }}{% endif %}{{ message['role'] + '\\n' + message['content'] | trim + '\\n' }}"
      "{% endfor %}",
      "", "");
  std::vector<ChatMessage> messages(2000, {"user", "hello"});
  messages.push_back({"user", std::string(10 << 20, 'x')});
  EXPECT_EQ(chat.render(messages).size(), 6u + 2001 * 6 + 2000 * 5 + (10u << 20));
}

}  // namespace
}  // namespace headrace
