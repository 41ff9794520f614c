#pragma once

#include <string_view>

namespace headrace {

class Forward;

/// The forward pass of one architecture, as a sequence of Forward's steps.
using ForwardFunction = void (*)(Forward&);

/// Looks an architecture up by the name that config.json gives it. Error{kUnsupported} listing
/// those that exist. To add one: a file in model/architectures/ and a line in architecture.cpp.
ForwardFunction find_architecture(std::string_view name);

void llama_forward(Forward& pass);

}  // namespace headrace
