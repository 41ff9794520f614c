#pragma once

#include "base/context.h"
#include "executor/session.h"
#include "headrace/plan_report.h"

namespace headrace::app {

/// Plans sessions of one engine on this machine, or on that of options.profile_path: the one that
/// the options ask for, or with `table` one for each tenth of the weights (for all of them, if the
/// engine cannot stream). Reads the manifest and allocates nothing large. Error{} for what a
/// session could not honour.
PlanReport plan_sessions(const SessionOptions& options, bool table, Context& context);

}  // namespace headrace::app
