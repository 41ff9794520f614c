#include "core/text.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include "base/file.h"
#include "core/convert.h"
#include "core/released_gil.h"
#include "text/detokenizer.h"
#include "text/stop_words.h"
#include "text/tokenizer.h"

namespace headrace::python {
namespace {

std::vector<int32_t> encode(const Tokenizer& tokenizer, const py::str& text,
                            bool add_special_tokens, bool parse_special) {
  const std::string utf8 = text;  // UnicodeEncodeError, if it is none
  const ReleasedGil released;
  return tokenizer.encode(
      utf8, {.add_special_tokens = add_special_tokens, .parse_special = parse_special});
}

std::string decode(const Tokenizer& tokenizer, const py::object& ids, bool skip_special) {
  return tokenizer.decode(to_tokens(ids, "Tokenizer.decode"), skip_special);
}

std::string apply_chat_template(const Tokenizer& tokenizer,
                                const std::vector<std::pair<std::string, std::string>>& turns,
                                bool add_generation_prompt) {
  std::vector<ChatMessage> messages;
  messages.reserve(turns.size());
  for (const auto& [role, content] : turns) messages.push_back({.role = role, .content = content});
  return tokenizer.apply_chat_template(messages, {.add_generation_prompt = add_generation_prompt});
}

void bind_tokenizer(py::module_& module) {
  using ReleaseGil = py::call_guard<ReleasedGil>;
  py::class_<Tokenizer>(
      module, "Tokenizer",
      "Turns text into token ids and back, with the ids of the model's own tokenizer.")
      .def(py::init(
               [](const std::string& dir) { return Tokenizer::load(posix_file_system(), dir); }),
           py::arg("engine_dir"), ReleaseGil())
      .def_static(
          "exists",
          [](const std::string& dir) { return Tokenizer::exists(posix_file_system(), dir); },
          py::arg("engine_dir"))
      .def("encode", &encode, py::arg("text"), py::arg("add_special_tokens") = true,
           py::arg("parse_special") = true)
      .def("decode", &decode, py::arg("ids"), py::arg("skip_special") = true)
      .def("apply_chat_template", &apply_chat_template, py::arg("turns"),
           py::arg("add_generation_prompt") = true,
           "The conversation of (role, content) as prompt text, to be encoded without special "
           "tokens.")
      .def("piece", &Tokenizer::piece, py::arg("id"), "The token as the vocabulary spells it.")
      .def("find", &Tokenizer::find, py::arg("piece"))
      .def_property_readonly("vocab_size", &Tokenizer::vocab_size)
      .def_property_readonly("bos_id", &Tokenizer::bos_id)
      .def_property_readonly("eos_id", &Tokenizer::eos_id)
      .def_property_readonly("pad_id", &Tokenizer::pad_id)
      .def_property_readonly("stop_ids", &Tokenizer::stop_ids,
                             "Ids that end a generation, EOS first.")
      .def_property_readonly("chat_template", &Tokenizer::chat_template);
}

}  // namespace

void bind_text(py::module_& module) {
  bind_tokenizer(module);
  py::class_<Detokenizer>(
      module, "Detokenizer",
      "Turns a stream of token ids into a stream of text that never ends inside a "
      "character.")
      .def(py::init<const Tokenizer&, bool>(), py::arg("tokenizer"), py::arg("skip_special") = true,
           py::keep_alive<1, 2>())
      .def("push", &Detokenizer::push, py::arg("id"),
           "The text that has become certain with this token. Ids beyond the tokenizer's have "
           "none: a model's vocabulary may be padded.")
      .def("finish", &Detokenizer::finish, "The rest.");
  py::class_<StopWords>(module, "StopWords",
                        "Holds text back that may turn out to be the beginning of a stop word.")
      .def(py::init<std::vector<std::string>>(), py::arg("words"))
      .def("feed", &StopWords::feed, py::arg("text"), "What may be shown now.")
      .def("finish", &StopWords::finish, "What was held back.")
      .def_property_readonly("stopped", &StopWords::stopped, "A stop word has been seen.");
}

}  // namespace headrace::python
