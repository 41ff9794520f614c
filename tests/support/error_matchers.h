#pragma once

#include <string>

#include <gtest/gtest.h>

#include "base/error.h"

namespace headrace::testing {

/// Calls `action`, expects an Error with `code` whose message is one line that holds `part`.
template <typename F>
void expect_error(ErrorCode code, const std::string& part, F&& action) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one about: " << part;
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    EXPECT_NE(message.find(part), std::string::npos) << message << "\nshould hold: " << part;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_EQ(message.front(), '[') << message;
  }
}

}  // namespace headrace::testing
