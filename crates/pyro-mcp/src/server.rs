//! What the protocol asks, answered from the catalogue.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyro_contract::exec::Stream;
use pyro_contract::journal::ClientName;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{Call, Interrupt, Pyro, Watch};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CustomRequest,
    CustomResult, GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerCapabilities,
    ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::hangup::given_up;
use crate::kept::Kept;
use crate::profile::Offer;
use crate::progress::{Messenger, News};
use crate::project::Places;
use crate::roots::{self, Roots};
use crate::table::Offered;
use crate::tools::{OUTPUT_READ, Offering, Tools};
use crate::{answer, arguments, instructions, project, prompts, resources};

/// So many calls are worked on at once; more wait their turn. Each takes a few descriptors.
const CALLS_AT_ONCE: usize = 256;

/// Commands that this server runs at once. A machine runs 200 (its agent refuses more), and others
/// want to run some too.
const COMMANDS_AT_ONCE: usize = 128;

/// The methods that are answered.
const METHODS: &[&str] = &[
    "initialize",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "server/discover",
    "tools/call",
    "tools/list",
];

/// A call that was given up has this long to undo what it began.
const UNDO_PATIENCE: Duration = Duration::from_secs(60);

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which tools and prompts.
    pub offer: Offer,
    /// The user's project; what the client says it has open if none.
    pub project: Option<PathBuf>,
    /// Directories of the host that calls may reach besides the project.
    pub allowed_paths: Vec<PathBuf>,
    /// Clients may be on other machines, and what they have open is not here.
    pub remote_clients: bool,
}

/// One server for any number of clients. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    pyro: Pyro,
    options: Options,
    tools: Tools,
    kept: Kept,
    turns: Semaphore,
    command_turns: Semaphore,
    calls: TaskTracker,
}

impl Server {
    /// A server over everything of one `PYRO_HOME`.
    #[must_use]
    pub fn new(pyro: Pyro, options: Options) -> Self {
        let tools = Tools::of(options.offer);
        Self(Arc::new(Shared {
            pyro,
            options,
            tools,
            kept: Kept::default(),
            turns: Semaphore::new(CALLS_AT_ONCE),
            command_turns: Semaphore::new(COMMANDS_AT_ONCE),
            calls: TaskTracker::new(),
        }))
    }

    /// Resolves once no call is worked on any more.
    pub(crate) async fn idle(&self) {
        self.0.calls.close();
        let _ = tokio::time::timeout(UNDO_PATIENCE, self.0.calls.wait()).await;
    }

    /// A call of an operation, from arguments to answer.
    async fn call(
        &self,
        offering: Offering,
        params: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse> {
        let Offering { operation, entry } = offering;
        let given = params.arguments.clone().unwrap_or_default();
        let mut request = arguments::request(operation, entry, given)?;
        let mut note = None;
        if touches_the_host(offering, &request) {
            let places = match self.places(&params, context).await? {
                Roots::Known(places) => places,
                Roots::Ask(question) => return Ok(question.into()),
            };
            note = settle_host(offering, &mut request, &places).await?;
        }
        let name = operation.name;
        let mut result = self.perform(name, Value::Object(request), context).await?;
        if let (Value::Object(result), Some(note)) = (&mut result, note) {
            result.insert("note".into(), note.into());
        }
        Ok(answer::success(entry, result, &self.0.kept).into())
    }

    /// Why a tool is not here.
    fn unknown_tool(&self, name: &str) -> String {
        let offer = self.0.options.offer.as_str();
        let why = match crate::table::entry(name).map(|entry| entry.offered) {
            Some(Offered::Never(reason)) => format!("{name} is offered to no model: {reason}"),
            Some(Offered::As { .. }) => format!("{name} is not offered in {offer}"),
            None => format!("there is no tool named {name:?}"),
        };
        format!("{why}; there are {}", self.0.tools.names().join(", "))
    }

    async fn perform(
        &self,
        operation: &str,
        request: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value> {
        let turns = match runs_command(&request) {
            true => &self.0.command_turns,
            false => &self.0.turns,
        };
        let _turn = tokio::select! {
            turn = turns.acquire() => turn,
            () = given_up(context) => return Err(cancelled()),
        };
        let news = Arc::new(News::default());
        let token = context.meta.get_progress_token();
        let messenger =
            token.map(|token| Messenger::new(Arc::clone(&news), context.peer.clone(), token));
        let interrupt = Interrupt::default();
        let mut call = Call::default();
        if messenger.is_some() {
            let heard = Arc::clone(&news);
            call.output = Some(Arc::new(move |_: Stream, bytes: &[u8]| heard.output(bytes)));
        }
        call.watch = Watch::new(news, interrupt.clone());
        let pyro = self.0.pyro.clone().for_client(asking(context));
        let mut work = std::pin::pin!(pyro.perform(operation, request, &call));
        let result = tokio::select! {
            result = &mut work => result,
            () = given_up(context) => {
                interrupt.trigger();
                // What it had begun is undone by itself; nobody hears the answer any more.
                tokio::time::timeout(UNDO_PATIENCE, work).await.unwrap_or_else(|_| Err(cancelled()))
            }
        };
        if let Some(messenger) = messenger {
            messenger.finish().await;
        }
        result
    }

    /// Where this call may read and write on the host.
    async fn places(
        &self,
        params: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Roots> {
        let options = &self.0.options;
        let allowed = options.allowed_paths.clone();
        if let Some(project) = &options.project {
            return Ok(Roots::Known(Places { project: Some(project.clone()), allowed }));
        }
        if options.remote_clients {
            return Ok(Roots::Known(Places { project: None, allowed }));
        }
        roots::of_client(params, context, allowed).await
    }
}

/// Who asks, as the journal will have it.
fn asking(context: &RequestContext<RoleServer>) -> Option<ClientName> {
    let name = context.client_info().map(|client| client.name);
    ClientName::new(&format!("mcp {}", name.unwrap_or_default()))
}

/// True if a command is to be waited for, which may take any time.
fn runs_command(request: &Value) -> bool {
    let command = if request["exec"].is_object() { &request["exec"] } else { request };
    !command["argv"].is_null() || !command["shell"].is_null()
}

/// True if the call cannot go on without knowing what of the host it may reach.
fn touches_the_host(offering: Offering, request: &Map<String, Value>) -> bool {
    let is_seeded = crate::schema::fields(&offering.operation.request).iter().any(|f| f == "seed");
    let has_local_seed = || match request.get("seed") {
        None => true,
        Some(seed) => seed["kind"] == "path" || seed["kind"] == "git",
    };
    (is_seeded && has_local_seed())
        || offering.entry.project.is_some()
        || offering.entry.host_paths.iter().any(|field| request.contains_key(*field))
}

/// Admits the host paths of a request, and puts the project where no seed was named. The note is
/// what the model should know of that.
async fn settle_host(
    offering: Offering,
    request: &mut Map<String, Value>,
    places: &Places,
) -> Result<Option<String>> {
    for field in offering.entry.host_paths {
        if let Some(Value::String(path)) = request.get_mut(*field) {
            *path = places.admit(field, path)?;
        }
    }
    settle_project(offering, request, places)?;
    if !crate::schema::fields(&offering.operation.request).iter().any(|field| field == "seed") {
        return Ok(None);
    }
    if let Some(seed) = request.get_mut("seed") {
        places.admit_seed(seed)?;
        return Ok(None);
    }
    let Some(project) = &places.project else {
        return Ok(Some("/workspace is empty: no project is open, and no seed was named.".into()));
    };
    let seeded = project::seed(project).await?;
    request.insert("seed".into(), seeded.seed);
    Ok(Some(seeded.note))
}

/// Names the project where the operation would fall back on a directory that nobody admitted.
fn settle_project(
    offering: Offering,
    request: &mut Map<String, Value>,
    places: &Places,
) -> Result<()> {
    let Some(field) = offering.entry.project else { return Ok(()) };
    if request.contains_key(field) {
        return Ok(());
    }
    let Some(project) = &places.project else {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("no project is open, so {field:?} has to be named"),
        )
        .with_hint("name a directory that the server may write to"));
    };
    request.insert(field.to_owned(), project.to_string_lossy().into_owned().into());
    Ok(())
}

fn cancelled() -> Error {
    Error::new(ErrorCode::Cancelled, "the call was given up; what it had begun was undone")
}

fn read_on(kept: &Kept, arguments: &Map<String, Value>) -> Result<Value> {
    let token = arguments.get("token").and_then(Value::as_str).ok_or_else(|| {
        Error::new(ErrorCode::InvalidArgument, "output_read needs a token")
            .with_hint("pass the token and next_offset of a result's `continued`")
    })?;
    let offset = arguments.get("offset").and_then(Value::as_u64).unwrap_or_default();
    kept.read(token, usize::try_from(offset).unwrap_or(usize::MAX))
}

/// Text as it is, items as JSON, and how to go on.
fn piece(value: Value) -> CallToolResult {
    let mut text = match value["text"].as_str() {
        Some(text) => text.to_owned(),
        None => value["items"].to_string(),
    };
    if let Some(next) = value["next_offset"].as_u64() {
        text += &format!("\n[there is more: offset {next}]");
    }
    let mut answer = CallToolResult::structured(value);
    answer.content = vec![ContentBlock::text(text)];
    answer
}

/// An error where the protocol has no place for a tool's own.
fn protocol_error(error: &Error) -> ErrorData {
    let data = serde_json::to_value(error).ok();
    let message = match &error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message.clone(),
    };
    match error.code {
        ErrorCode::NotFound => ErrorData::resource_not_found(message, data),
        ErrorCode::InvalidArgument => ErrorData::invalid_params(message, data),
        _ => ErrorData::internal_error(message, data),
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let offer = self.0.options.offer;
        let capabilities = ServerCapabilities::builder().enable_tools().enable_prompts();
        let capabilities = match offer.has_workspaces() {
            true => capabilities.enable_resources().build(),
            false => capabilities.build(),
        };
        let me = Implementation::new("pyro", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities)
            .with_server_info(me)
            .with_instructions(instructions::of(offer))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.0.tools.listed().to_vec()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.0.tools.listed().iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let _counted = self.0.calls.token();
        if params.name == OUTPUT_READ {
            let read = read_on(&self.0.kept, &params.arguments.unwrap_or_default());
            return Ok(read
                .map_or_else(|error| answer::failure(&error, &self.0.tools), piece)
                .into());
        }
        let Some(offering) = self.0.tools.find(&params.name) else {
            return Err(ErrorData::invalid_params(self.unknown_tool(&params.name), None));
        };
        let answered = self.call(offering, params, &context).await;
        Ok(answered.unwrap_or_else(|error| answer::failure(&error, &self.0.tools).into()))
    }

    /// What the protocol knows arrives here only if its parameters are not the protocol's.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let method = request.method;
        if METHODS.contains(&&*method) {
            let message = format!("the parameters of {method} are not as the protocol says");
            return Err(ErrorData::invalid_params(message, None));
        }
        Err(ErrorData::new(
            rmcp::model::ErrorCode::METHOD_NOT_FOUND,
            format!("there is no method named {method:?}"),
            None,
        ))
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let prompts = prompts::list(self.0.options.offer, &self.0.tools);
        Ok(ListPromptsResult::with_all_items(prompts))
    }

    async fn get_prompt(
        &self,
        params: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = params.arguments.unwrap_or_default();
        prompts::get(self.0.options.offer, &self.0.tools, &params.name, &arguments)
            .map(GetPromptResponse::from)
            .map_err(|error| ErrorData::invalid_params(protocol_error(&error).message, None))
    }

    async fn list_resources(
        &self,
        params: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        if !self.0.options.offer.has_workspaces() {
            return Ok(ListResourcesResult::default());
        }
        let cursor = params.and_then(|params| params.cursor);
        let (listed, next) = resources::list(&self.0.pyro, cursor.as_deref())
            .await
            .map_err(|error| protocol_error(&error))?;
        let mut result = ListResourcesResult::with_all_items(listed);
        result.next_cursor = next;
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let listed = match self.0.options.offer.has_workspaces() {
            true => resources::templates(),
            false => Vec::new(),
        };
        Ok(ListResourceTemplatesResult::with_all_items(listed))
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let _counted = self.0.calls.token();
        let missing = || {
            let message = format!("there is no resource {:?}", params.uri);
            ErrorData::resource_not_found(message, Some(json!({"uri": params.uri})))
        };
        if !self.0.options.offer.has_workspaces() {
            return Err(missing());
        }
        let call = Call::default();
        let read = tokio::select! {
            read = resources::read(&self.0.pyro, &params.uri, &call) => read,
            () = given_up(&context) => Err(cancelled()),
        };
        match read {
            Ok(Some(contents)) => Ok(ReadResourceResult::new(vec![contents]).into()),
            Ok(None) => Err(missing()),
            Err(error) => Err(protocol_error(&error)),
        }
    }
}
