-- Health of Trainyard's kinds for Argo CD, by the conditions that every status has.
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not looked at this version of the object yet"}
end
local function holds(type)
  for _, condition in ipairs(status.conditions or {}) do
    if condition.type == type then
      return condition.status == "True"
    end
  end
  return false
end
-- A wave, or a hook, waits until a job or a run has finished: one that only runs is not Healthy yet.
local finishes = obj.kind == "TrainingJob" or obj.kind == "PipelineRun"
local health = "Progressing"
if holds("Stalled") then
  health = "Degraded"
elseif holds("Suspended") then
  health = "Suspended"
elseif holds("Ready") and (holds("Finished") or not finishes) then
  health = "Healthy"
end
return {status = health, message = status.message or ""}
