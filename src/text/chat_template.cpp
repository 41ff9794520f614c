#include "text/chat_template.h"

#include <utility>

#include "base/error.h"
#include "text/jinja/template.h"
#include "text/unicode.h"

namespace headrace {
namespace {

[[noreturn]] void refuse(const jinja::Failure& failure) {
  fail(ErrorCode::kInvalidArgument,
       "[chat template] {}; without --chat the text goes to the model as it is", failure.what());
}

jinja::Template parse(const std::string& source) {
  try {
    return jinja::Template(source);
  } catch (const jinja::Failure& failure) {
    refuse(failure);
  }
}

jinja::Value text_value(const std::string& text) { return jinja::Value(text::repair_utf8(text)); }

jinja::Value message_value(const ChatMessage& message) {
  return jinja::make_dict(
      {{"role", text_value(message.role)}, {"content", text_value(message.content)}});
}

}  // namespace

struct ChatTemplate::Impl {
  jinja::Template parsed;
  std::string bos_token;
  std::string eos_token;
};

ChatTemplate::ChatTemplate(const std::string& source, std::string bos_token, std::string eos_token)
    : impl_(new Impl{.parsed = parse(source),
                     .bos_token = std::move(bos_token),
                     .eos_token = std::move(eos_token)}) {}

ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const std::vector<ChatMessage>& messages,
                                 const ChatOptions& options) const {
  std::vector<jinja::Value> turns;
  for (const ChatMessage& message : messages) turns.push_back(message_value(message));
  jinja::Variables variables = {
      {"messages", jinja::make_list(std::move(turns))},
      {"tools", jinja::Value(jinja::None{})},
      {"documents", jinja::Value(jinja::None{})},
      {"add_generation_prompt", jinja::Value(options.add_generation_prompt)},
  };
  if (!impl_->bos_token.empty()) variables.emplace_back("bos_token", text_value(impl_->bos_token));
  if (!impl_->eos_token.empty()) variables.emplace_back("eos_token", text_value(impl_->eos_token));
  jinja::RenderOptions render_options;
  render_options.unix_time = options.unix_time;
  try {
    return impl_->parsed.render(variables, render_options);
  } catch (const jinja::Failure& failure) {
    refuse(failure);
  }
}

}  // namespace headrace
